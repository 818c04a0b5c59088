"""Log the inputs and the model of a run to W&B as artifacts, which link the runs of a pipeline.

The model of a run is TASK-RUN, for example vqvae-mine; each training of it is a version, and the newest has the alias
best. Datasets are named by their fingerprints. A version has the same bytes wherever it is stored, so that W&B finds
the path images -> VQ-VAE -> codes -> PixelCNN even if every run was tracked offline.
"""

import re
from pathlib import Path

from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import CheckpointError
from vqdist.models.io import VQVAE_FOLDER, read_model_card
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.tracker import Tracker

BEST = "best"  # model/ has the weights with the lowest validation loss
_SHORT = 12
_MAX_NAME = 128  # of an artifact of W&B


def log_inputs(tracker: Tracker, path: str, manifest: Manifest) -> None:
    """Log the dataset that a run trains on and, for codes, the VQ-VAE that encoded them.

    Args:
        path: the folder of the dataset.
        manifest: its manifest.
    """
    if not tracker.active:
        return
    if manifest.vqvae_fingerprint is not None:
        run = manifest.source.get("vqvae_run")  # not recorded by earlier versions
        name = name_model("vqvae", run if isinstance(run, str) else manifest.vqvae_fingerprint[:_SHORT])
        metadata = {"fingerprint": manifest.vqvae_fingerprint}
        tracker.log_artifact("model", name, path=Path(path) / VQVAE_FOLDER, metadata=metadata, is_input=True)
    tracker.log_artifact(
        "dataset" if manifest.kind == "images" else "codes",
        f"{manifest.kind}-{manifest.fingerprint[:_SHORT]}",
        path=Path(path) / "dataset.json",
        metadata={
            "fingerprint": manifest.fingerprint,
            "image_size": manifest.image_size,
            "samples": {name: split.samples for name, split in manifest.splits.items()},
        },
        is_input=True,
    )


def log_model(tracker: Tracker, run_dir: Path, task: str) -> None:
    """Log the model that a run has saved; do nothing if it has not saved one yet."""
    if not tracker.active:
        return
    try:
        card = read_model_card(run_dir)
    except CheckpointError:
        return
    metadata = {"fingerprint": card.fingerprint, "step": card.step, **card.metrics}
    name = name_model(task, run_dir.name)
    tracker.log_artifact("model", name, path=RunDir(run_dir).model, metadata=metadata, is_input=False, aliases=[BEST])


def name_model(task: str, run: str) -> str:
    """Return the name of the artifact of a run's model; W&B takes fewer characters than a run's name may have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{task}-{run}")[:_MAX_NAME]
