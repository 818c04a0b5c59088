"""The file that makes a folder a dataset, for messages about a dataset where a model is expected."""

from pathlib import Path

MANIFEST = "dataset.json"


def is_dataset(path: str | Path) -> bool:
    """Return whether a path is the folder of a dataset, of images or of codes."""
    return (Path(path) / MANIFEST).is_file()
