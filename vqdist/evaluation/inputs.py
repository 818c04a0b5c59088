"""The inputs of `vqdist evaluate`, read and checked before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqdist.config.command_options import EvaluateOptions
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.errors import Problem, UserError, collect
from vqdist.inference.compatibility import find_kind_problems, find_pixelcnn_problems, find_vqvae_problems
from vqdist.inference.dataset import Dataset, SplitLoader
from vqdist.inference.reconstruction import find_pictures
from vqdist.inference.saved_models import build_pixelcnn, build_vqvae, read_vqvae_of
from vqdist.inference.work_sharing import run_on_main
from vqdist.models.io import ModelFiles, read_model_files
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE


@dataclass(frozen=True)
class EvaluationInputs:
    """A model and the split on which it is evaluated.

    Attributes:
        run: run directory, or folder of a saved model.
        prior: the PixelCNN to evaluate; None to evaluate the VQ-VAE.
        vqvae: the VQ-VAE to evaluate, or the one of the codes of the PixelCNN.
        dataset: images for a VQ-VAE, codes for a PixelCNN.
        beside: more VQ-VAEs to evaluate on the split, by name.
        samples: sampled slices to compare with the slices of `images`; None for no comparison.
        figures: folder for figures; None for no figures.
    """

    run: Path
    prior: PixelCNN | None
    vqvae: VQVAE
    dataset: Dataset
    split: SplitLoader
    beside: dict[str, VQVAE]
    samples: SampleFolder | None
    images: Dataset | None
    figures: Path | None
    batch_size: int


@dataclass(frozen=True)
class PictureInputs:
    """A saved VQ-VAE, the pictures to reconstruct, which were found in `source`, and the folder for the results."""

    files: ModelFiles
    paths: Sequence[Path]
    source: Path
    out: Path


def read_inputs(options: EvaluateOptions, ranks: Ranks) -> EvaluationInputs:
    """Read and check the inputs of the evaluation of a model; nothing is written. Collective: all ranks.

    Args:
        options: with `data`.
    Raises:
        ConfigError: every problem of the inputs. Whether they fit together is checked once all of them can be read.
    """
    assert options.data is not None, "the other case is read_picture_inputs"
    data = options.data
    (prior_files, vqvae_files), dataset, beside, images, samples = collect(
        lambda: run_on_main(ranks, lambda: read_models(options.run)),
        lambda: Dataset.open(data),
        lambda: run_on_main(ranks, lambda: read_beside(options.run, options.beside)),
        lambda: None if options.images is None else Dataset.open(options.images),
        lambda: None if options.samples is None else SampleFolder.open(options.samples),
        problems=run_on_main(ranks, lambda: find_output_problems(options)),
    )
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
        lambda: SplitLoader(dataset, options.split),
        lambda: None if samples is None else find_real_images(given_images, dataset, options.split),
        problems=list(dict.fromkeys(problems)),
    )
    return EvaluationInputs(
        run=options.run,
        prior=prior,
        vqvae=vqvae,
        dataset=dataset,
        split=split,
        beside=others,
        samples=samples,
        images=real,
        figures=options.figure_folder,
        batch_size=options.batch_size,
    )


def read_picture_inputs(options: EvaluateOptions, ranks: Ranks) -> PictureInputs:
    """Read and check the inputs of the reconstruction of pictures; nothing is written. Collective: all ranks.

    Args:
        options: with `pictures` and a folder for figures.
    Raises:
        ConfigError: every problem of the inputs.
    """
    assert options.pictures is not None, "the other case is read_inputs"
    assert options.figure_folder is not None, "a conflict of the options"
    source, out = options.pictures, options.figure_folder
    files, paths = run_on_main(
        ranks,
        lambda: collect(
            lambda: read_model_files(options.run, kind="vqvae"),
            lambda: find_pictures(source),
            problems=find_output_problems(options),
        ),
    )
    return PictureInputs(files, paths, source, out)


def find_output_problems(options: EvaluateOptions) -> list[Problem]:
    """Return why the results cannot be written. The figures of a run are optional in its own folder."""
    folder = options.figure_folder
    problems = [] if options.out is None else write_access_problems("--out", options.out, folder=False)
    if folder is not None and (options.pictures is not None or folder != options.run / "figures"):
        problems += write_access_problems("--figures", folder, folder=True)
    return problems


def read_models(run: Path) -> tuple[ModelFiles | None, ModelFiles]:
    """Read a PixelCNN and the VQ-VAE of its codes, or None and a VQ-VAE."""
    files = read_model_files(run)
    return (files, read_vqvae_of(files)) if files.card.kind == "pixelcnn" else (None, files)


def read_beside(run: Path, others: Sequence[Path]) -> dict[str, ModelFiles]:
    """Read more VQ-VAEs by the names of their runs; runs that share a name are called by their paths."""
    names = [path.name for path in (run, *others)]
    return {
        path.name if names.count(path.name) == 1 else str(path): read_model_files(path, kind="vqvae") for path in others
    }


def find_real_images(images: Dataset | None, codes: Dataset, split: str) -> Dataset:
    """Return the dataset of the real slices that samples are compared with.

    Args:
        images: the dataset; None for the one that the codes were made from.
        split: compared with the samples, in addition to train.
    Raises:
        UserError: it is unknown, or not a dataset of images with two slices in train and in the split.
    """
    if images is None:
        if (path := codes.manifest.source.get("images")) is None:
            raise UserError.of("--images", "none", "the dataset of images that the codes were made from")
        images = Dataset.open(str(path))
    problems = find_kind_problems(images, "images", "the comparison with samples")
    for name in ("train", split):
        count = images.manifest.splits[name].samples if name in images.manifest.splits else 0
        if count < 2:
            expected = "at least two, to compare the samples with"
            problems.append(Problem(f"{images.path}, {name}", f"{count} slices", expected))
    if problems:
        raise UserError(problems)
    return images
