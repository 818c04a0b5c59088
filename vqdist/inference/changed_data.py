"""Warnings of datasets that have changed since a model was trained on them, so that their splits are other ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.data.open_dataset import Dataset
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import print_message
from vqdist.models.model_card import ModelCard
from vqdist.runs.run_dir import read_run_config
from vqdist.training.preflight import DEMO_FOLDER


def read_data_section(run: Path) -> dict[str, Any]:
    """Return the data section of config.yaml of a run."""
    section = read_run_config(run).get("data")
    return section if isinstance(section, dict) else {}


def choose_data_path(data: Mapping[str, Any], run: Path) -> str:
    """Return data.path, or the folder of the synthetic dataset of a run without one."""
    return str(data.get("path") or run.absolute().parent / DEMO_FOLDER)


def report_changed_data(dataset: Dataset, card: ModelCard, run: Path, *, doubt: str) -> None:
    """Print a warning if a dataset is that of a run and has changed; another dataset needs no warning.

    Args:
        card: of the model of the run.
        doubt: what the change may do, for the message.
    """
    before = card.data.data_fingerprint
    if before is None or before == dataset.manifest.fingerprint or not _is_of_run(Path(dataset.path), run):
        return
    print_message(f"WARNING: {dataset.path} has changed since {run} was trained on it: {doubt}")


def report_changed_images(images: Dataset, codes: Dataset, split: str) -> None:
    """Print a warning if images are not those that the codes of a PixelCNN were encoded from.

    Args:
        codes: the dataset of codes of a PixelCNN. Earlier versions did not store the fingerprint of the images.
        split: the evaluated split.
    """
    source = codes.manifest.source
    before = source.get("images_fingerprint")
    if before is None or before == images.manifest.fingerprint:
        return
    is_same_place = str(source.get("images")) == str(Path(images.path).resolve())
    verb = "has changed since" if is_same_place else "differs from the images that"
    rest = "was encoded from it" if is_same_place else "was encoded from"
    print_message(f"WARNING: {images.path} {verb} {codes.path} {rest}: {describe_doubt(split)}")


def report_other_codes(dataset: Dataset, card: ModelCard, run: Path) -> None:
    """Print a note if a dataset is not the one that a PixelCNN was trained on: figures of train may be of others."""
    trained = card.data.data_fingerprint
    if trained is not None and trained != dataset.manifest.fingerprint:
        print_message(
            f"{dataset.path} is not the dataset that {show_model_name(run)} was trained on: if its train split has "
            "other people, the baselines, membership_auc and near copies do not refer to those of the training"
        )


def describe_doubt(split: str) -> str:
    """Return what a changed dataset may do to the evaluation of a split."""
    if split == "train":
        return "its train split may contain images that were not in training"
    return f"its {split} split may contain training images"


def _is_of_run(data: Path, run: Path) -> bool:
    """Return whether a path is that of the dataset that config.yaml of a run names."""
    try:
        path = choose_data_path(read_data_section(run), run)
    except ConfigError:  # a saved model without its run
        return False
    return Path(path).resolve() == data.resolve()
