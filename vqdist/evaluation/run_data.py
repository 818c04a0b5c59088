"""The dataset that a run was trained on, for `vqdist evaluate` without --data."""

from pathlib import Path

from vqdist.config.command_options import EvaluateOptions
from vqdist.data.open_dataset import Dataset
from vqdist.data.remote.download import is_url
from vqdist.foundation.errors import UserError
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
    section = read_run_config(run).get("data")
    data = section if isinstance(section, dict) else {}
    path = data.get("path") or run.absolute().parent / DEMO_FOLDER
    where = f"--data: data.path in {RunDir(run).config}"
    if is_url(str(path)):
        raise UserError.of(where, str(path), "a dataset on this machine: give its folder with --data")
    if not Path(path).is_dir():
        found = f"{path}, which is not a folder seen from {Path.cwd()}"
        raise UserError.of(where, found, "the dataset of the run: give its folder with --data")
    return open_images(path, options, cache_dir=data.get("cache_dir"))


def report_changed_data(dataset: Dataset, card: ModelCard) -> None:
    """Print which dataset is used, and whether its content differs from what the model was trained on."""
    before = card.data.data_fingerprint
    changed = before is not None and before != dataset.manifest.fingerprint
    suffix = "; its content has changed since the run was trained on it" if changed else ""
    print_message(f"--data {dataset.path}, from the configuration of the run{suffix}")
