"""The dataset that a run was trained on: opened where --data is not given, and compared with what is there now."""

from pathlib import Path

from vqdist.config.command_options import EvaluateOptions
from vqdist.data.dataset_path import is_remote_dataset
from vqdist.data.open_dataset import Dataset
from vqdist.data.orientation import shows_pictures
from vqdist.data.shards.tar_lists import names_tars
from vqdist.foundation.errors import UserError
from vqdist.foundation.progress import print_message
from vqdist.inference.changed_data import (
    choose_data_path,
    describe_doubt,
    read_data_section,
    report_changed_data,
    report_other_codes,
)
from vqdist.inference.compatibility import report_image_size
from vqdist.inference.open_images import open_images
from vqdist.models.model_card import ModelCard
from vqdist.runs.run_dir import RunDir


def open_run_data(options: EvaluateOptions) -> Dataset:
    """Open the dataset that config.yaml of a run names.

    Raises:
        UserError: it names none that is on this machine; the message asks for --data.
    """
    run = options.run
    data = read_data_section(run)
    path = choose_data_path(data, run)
    where = f"--data: data.path in {RunDir(run).config}"
    if is_remote_dataset(path):
        raise UserError.of(where, path, "a dataset on this machine: give its folder with --data")
    if not Path(path).is_dir() and not names_tars(path):
        found = f"{path}, which is not a folder seen from {Path.cwd()}"
        raise UserError.of(where, found, "the dataset of the run: give its folder with --data")
    return open_images(path, options, cache_dir=data.get("cache_dir"))


def is_of_pictures(options: EvaluateOptions) -> bool:
    """Return whether a model is known to be trained on other pictures than brains: the dataset of its run says so."""
    try:
        return shows_pictures(open_run_data(options).manifest)
    except UserError:  # a saved model, or a run whose dataset is not on this machine
        return False


def report_run_data(dataset: Dataset, card: ModelCard, options: EvaluateOptions) -> None:
    """Print which dataset is used if none was given, and warnings.

    There is one if it is the dataset of the run and has changed, and one if its slices have another size.

    Another dataset that is given with --data is not expected to be that of the run.
    """
    if options.data is None:
        print_message(f"--data {dataset.path}, from the configuration of the run")
    report_changed_data(dataset, card, options.run, doubt=describe_doubt(options.split))
    if card.kind == "pixelcnn" and options.data is not None:
        report_other_codes(dataset, card, options.run)
    report_image_size(dataset, card, options.run, effect="its figures are not comparable")
