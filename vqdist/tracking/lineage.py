"""What a run was made from and what it made: W&B artifacts whose names carry fingerprints.

The name, and a content that is the same to the byte wherever the thing lies, tie the runs of a pipeline
together, also when each was tracked offline: slices -> VQ-VAE -> codes -> PixelCNN.
"""

from pathlib import Path
from typing import Any

from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import CheckpointError
from vqdist.models.io import fingerprint
from vqdist.tracking.tracker import Tracker

_SHORT = 12


def log_inputs(tracker: Tracker, path: str, manifest: Manifest) -> None:
    """Tell which data set a run trains on and, of codes, which VQ-VAE made them.

    Args:
        path: the data set's folder.
        manifest: its manifest.
    """
    if not tracker.active:
        return
    uses = []
    if manifest.vqvae_fingerprint is not None:
        uses.append(describe_model("vqvae", manifest.vqvae_fingerprint, Path(path) / "vqvae"))
    tracker.log_artifact(
        "dataset" if manifest.kind == "images" else "codes",
        f"{manifest.kind}-{manifest.fingerprint[:_SHORT]}",
        folder=Path(path),
        metadata={
            "fingerprint": manifest.fingerprint,
            "image_size": manifest.image_size,
            "samples": {name: split.samples for name, split in manifest.splits.items()},
        },
        uses=uses,
    )


def log_model(tracker: Tracker, run_dir: Path, task: str) -> None:
    """Tell which model a run has made; nothing where it has not saved one yet."""
    if not tracker.active:
        return
    try:
        mark = fingerprint(run_dir)
    except CheckpointError:
        return
    tracker.log_artifact(**describe_model(task, mark, run_dir / "model"))


def describe_model(task: str, mark: str, folder: Path) -> dict[str, Any]:
    """Return the artifact of a saved model; the same for the run that made it and for those that use it."""
    name = f"{task}-{mark[:_SHORT]}"
    return {"kind": "model", "name": name, "folder": folder, "metadata": {"fingerprint": mark}}
