"""The dataset that a run was trained on: opened where --data is not given, and compared with what is there now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.config.command_options import EvaluateOptions
from vqdist.data.open_dataset import Dataset
from vqdist.data.remote.download import is_url
from vqdist.foundation.errors import ConfigError, UserError
from vqdist.foundation.progress import print_message
from vqdist.inference.open_images import open_images
from vqdist.models.model_card import ModelCard
from vqdist.runs.run_dir import RunDir, read_run_config
from vqdist.training.preflight import DEMO_FOLDER


def open_run_data(options: EvaluateOptions) -> Dataset:
    """Open the dataset that config.yaml of a run names.

    Raises:
        UserError: it names none that is on this machine; the message asks for --data.
    """
    run = options.run
    data = _read_data_section(run)
    path = _choose_path(data, run)
    where = f"--data: data.path in {RunDir(run).config}"
    if is_url(path):
        raise UserError.of(where, path, "a dataset on this machine: give its folder with --data")
    if not Path(path).is_dir():
        found = f"{path}, which is not a folder seen from {Path.cwd()}"
        raise UserError.of(where, found, "the dataset of the run: give its folder with --data")
    return open_images(path, options, cache_dir=data.get("cache_dir"))


def _read_data_section(run: Path) -> dict[str, Any]:
    section = read_run_config(run).get("data")
    return section if isinstance(section, dict) else {}


def _choose_path(data: Mapping[str, Any], run: Path) -> str:
    """Return data.path, or the folder of the synthetic dataset of a run without one."""
    return str(data.get("path") or run.absolute().parent / DEMO_FOLDER)


def report_run_data(dataset: Dataset, card: ModelCard, options: EvaluateOptions) -> None:
    """Print which dataset is used if none was given, and a warning if it is that of the run and has changed.

    Another dataset that is given with --data is not expected to be that of the run.
    """
    if options.data is None:
        print_message(f"--data {dataset.path}, from the configuration of the run")
    elif not _is_of_run(options.data, options.run):
        return
    before = card.data.data_fingerprint
    if before is not None and before != dataset.manifest.fingerprint:
        changed = f"{dataset.path} has changed since {options.run} was trained on it"
        print_message(f"WARNING: {changed}: {describe_doubt(options.split)}")


def report_changed_images(images: Dataset, codes: Dataset, split: str) -> None:
    """Print a warning if the real slices for samples are not those that the codes were encoded from.

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


def describe_doubt(split: str) -> str:
    """Return what a changed dataset may do to the evaluation of a split."""
    if split == "train":
        return "its train split may contain images that were not in training"
    return f"its {split} split may contain training images"


def _is_of_run(data: Path, run: Path) -> bool:
    """Return whether a path is that of the dataset that config.yaml of a run names."""
    try:
        path = _choose_path(_read_data_section(run), run)
    except ConfigError:  # a saved model without its run
        return False
    return Path(path).resolve() == data.resolve()
