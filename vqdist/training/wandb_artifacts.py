"""Log the inputs and the model of a run to W&B as artifacts, which link the runs of a pipeline.

Names contain fingerprints, and contents are the same bytes wherever they are stored. W&B thereby finds the path
images -> VQ-VAE -> codes -> PixelCNN even if every run was tracked offline.
"""

from pathlib import Path

from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import CheckpointError
from vqdist.models.io import VQVAE_FOLDER, fingerprint
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.tracker import Tracker

_SHORT = 12


def log_inputs(tracker: Tracker, path: str, manifest: Manifest) -> None:
    """Log the dataset that a run trains on and, for codes, the VQ-VAE that encoded them.

    Args:
        path: the folder of the dataset.
        manifest: its manifest.
    """
    if not tracker.active:
        return
    if manifest.vqvae_fingerprint is not None:
        _log_model(tracker, "vqvae", manifest.vqvae_fingerprint, Path(path) / VQVAE_FOLDER, is_input=True)
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
        digest = fingerprint(run_dir)
    except CheckpointError:
        return
    _log_model(tracker, task, digest, RunDir(run_dir).model, is_input=False)


def _log_model(tracker: Tracker, task: str, digest: str, folder: Path, *, is_input: bool) -> None:
    name = f"{task}-{digest[:_SHORT]}"
    tracker.log_artifact("model", name, path=folder, metadata={"fingerprint": digest}, is_input=is_input)
