"""The inputs of `vqdist evaluate`, read and checked before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqdist.config.command_options import EvaluateOptions
from vqdist.data.open_dataset import Dataset
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.run_data import open_run_data, report_run_data
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.single_conditions import report_single_conditions
from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.errors import DataError, Problem, UserError, check_option, collect
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import count_noun
from vqdist.inference.changed_data import report_changed_images
from vqdist.inference.compatibility import find_kind_problems, find_pixelcnn_problems, find_vqvae_problems
from vqdist.inference.open_images import open_images
from vqdist.inference.reconstruction import find_pictures
from vqdist.inference.saved_models import (
    build_pixelcnn,
    build_vqvae,
    read_vqvae_files,
    read_vqvae_of,
    report_failed_training,
)
from vqdist.inference.split_loader import SplitLoader
from vqdist.inference.volume_reconstruction import is_volume
from vqdist.inference.work_sharing import run_on_main
from vqdist.models.io import ModelFiles, read_model_files
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.runs.run_dir import RunDir


@dataclass(frozen=True)
class EvaluationInputs:
    """The checked inputs of the evaluation of a model on a split.

    Attributes:
        fingerprint: of the evaluated model.
        prior: the PixelCNN to evaluate; None to evaluate the VQ-VAE.
        vqvae: the VQ-VAE to evaluate, or the one of the codes of the PixelCNN.
        dataset: images for a VQ-VAE, codes for a PixelCNN.
        beside: more VQ-VAEs to evaluate on the split, by name.
        samples: sampled slices to compare with the real slices; None for no comparison.
        real_slices: of train and of the split.
    """

    options: EvaluateOptions
    fingerprint: str
    prior: PixelCNN | None
    vqvae: VQVAE
    dataset: Dataset
    split: SplitLoader
    beside: dict[str, VQVAE]
    samples: SampleFolder | None
    real_slices: tuple[SplitLoader, SplitLoader] | None


def read_inputs(options: EvaluateOptions, ranks: Ranks) -> EvaluationInputs:
    """Read and check the inputs of the evaluation of a model; nothing is written. Must be called by all ranks.

    Args:
        options: without `pictures`; with `data`, or with a run that names its dataset.
    Raises:
        ConfigError: every problem of the inputs. Whether they fit together is checked once all of them can be read.
    """
    assert options.pictures is None, "use check_picture_inputs for pictures"
    data = options.data
    (prior_files, vqvae_files), dataset, beside, images, samples = collect(
        lambda: run_on_main(ranks, lambda: read_models(options.run)),
        lambda: open_run_data(options) if data is None else open_given("--data", data, options),
        lambda: run_on_main(ranks, lambda: read_beside(options.run, options.beside)),
        lambda: None if options.images is None else open_given("--images", options.images, options),
        lambda: open_samples(options),
        problems=run_on_main(ranks, lambda: find_output_problems(options)),
    )
    card = (prior_files or vqvae_files).card
    prior = None if prior_files is None else build_pixelcnn(prior_files)
    vqvae, others = build_vqvae(vqvae_files), {name: build_vqvae(files) for name, files in beside.items()}
    if prior is None:
        problems = [problem for model in (vqvae, *others.values()) for problem in find_vqvae_problems(model, dataset)]
    else:
        problems = find_pixelcnn_problems(prior, vqvae_files.card.fingerprint, dataset)
        if others:
            problems.append(Problem("--beside", "a PixelCNN as --run", "a VQ-VAE, which has a rate and a distortion"))
    given_images = images if prior is not None else dataset
    split, real = collect(
        lambda: SplitLoader(
            dataset,
            options.split,
            batch_size=options.batch_size,
            reads_previous=prior is not None and prior.reads_previous,
            flag="--split",
        ),
        lambda: None if samples is None else find_real_slices(given_images, dataset, options),
        problems=list(dict.fromkeys(problems)),
    )
    report_run_data(dataset, card, options)
    if samples is not None:
        report_single_conditions(samples, real[0].manifest)
    return EvaluationInputs(options, card.fingerprint, prior, vqvae, dataset, split, others, samples, real)


def open_given(option: str, path: Path, options: EvaluateOptions) -> Dataset:
    """Open the images or codes of an option."""
    return check_option(option, path, lambda: open_images(path, options))


def open_samples(options: EvaluateOptions) -> SampleFolder | None:
    """List the slices of --samples, None without, and check that --features is a file."""
    samples, features = options.samples, options.features
    problems = []
    if features is not None and not features.is_file():
        found = "a folder" if features.exists() else "nothing"
        problems.append(Problem(f"--features {features}", found, "a .safetensors or TorchScript file"))
    if samples is None:
        return None
    (opened,) = collect(
        lambda: check_option("--samples", samples, lambda: SampleFolder.open(samples)), problems=problems
    )
    return opened


def check_picture_inputs(options: EvaluateOptions, ranks: Ranks) -> None:
    """Check the inputs of the reconstruction of pictures; nothing is written. Must be called by all ranks.

    Args:
        options: with `pictures`.
    Raises:
        ConfigError: every problem of the inputs.
    """
    source = options.pictures
    assert source is not None, "use read_inputs if pictures is None"
    checks = (
        lambda: read_vqvae_files("--run", options.run),
        lambda: None if is_volume(source) else check_option("--pictures", source, lambda: find_pictures(source)),
    )
    run_on_main(ranks, lambda: collect(*checks, problems=find_output_problems(options)))


def find_output_problems(options: EvaluateOptions) -> list[Problem]:
    """Return why the results cannot be written. The figures of a run are optional in its own folder."""
    folder = options.figure_folder
    problems = [] if options.out is None else write_access_problems("--out", options.out, folder=False)
    if folder is not None and (options.pictures is not None or folder != RunDir(options.run).figures):
        problems += write_access_problems("--figures", folder, folder=True)
    return problems


def read_models(run: Path) -> tuple[ModelFiles | None, ModelFiles]:
    """Read a PixelCNN and the VQ-VAE of its codes, or None and a VQ-VAE."""
    files = check_option("--run", show_model_name(run), lambda: read_model_files(run))
    report_failed_training(run, files)
    return (files, read_vqvae_of(files)) if files.card.kind == "pixelcnn" else (None, files)


def read_beside(run: Path, others: Sequence[Path]) -> dict[str, ModelFiles]:
    """Read more VQ-VAEs by the names of their runs; runs that share a name are called by their paths."""
    names = [path.name for path in (run, *others)]
    return {
        path.name if names.count(path.name) == 1 else show_model_name(path): read_vqvae_files("--beside", path)
        for path in others
    }


def find_real_slices(
    images: Dataset | None, codes: Dataset, options: EvaluateOptions
) -> tuple[SplitLoader, SplitLoader]:
    """Return the real slices of train and of the evaluated split, with which samples are compared.

    Args:
        images: dataset of the slices; None for the dataset that the codes were made from.
    Raises:
        UserError: the dataset is unknown, or it does not have two images in each of the two splits.
    """
    if images is None:
        if (path := codes.manifest.source.get("images")) is None:
            raise UserError.of("--images", "none", "the dataset of images that the codes were made from")
        images = open_images(str(path), options, codes.manifest.source.get("images_source") or {})
    if problems := find_kind_problems(images, "images", "the comparison with samples"):
        raise UserError(problems)
    report_changed_images(images, codes, options.split)
    train, test = (SplitLoader(images, name, batch_size=options.batch_size) for name in ("train", options.split))
    for split in (train, test):
        if len(split) < 2:
            expected = "at least two, to compare the samples with"
            raise DataError.of(f"{images.path}, {split.name}", count_noun(len(split), "slice"), expected)
    return train, test
