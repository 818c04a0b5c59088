"""Check that a dataset fits a model."""

from pathlib import Path

from vqdist.data.open_dataset import Dataset
from vqdist.foundation.errors import Problem
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import print_message
from vqdist.models.model_card import ModelCard
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE


def find_kind_problems(dataset: Dataset, kind: str, user: str) -> list[Problem]:
    """Return a problem unless the dataset is of a kind, "images" or "codes", that `user` needs."""
    found = dataset.manifest.kind
    if found == kind:
        return []
    return [Problem(str(dataset.path), f"a dataset of {found}", f"a dataset of {kind} for {user}")]


def find_vqvae_problems(model: VQVAE, dataset: Dataset) -> list[Problem]:
    """Return why a VQ-VAE cannot encode the samples of a dataset."""
    manifest, problems = dataset.manifest, []
    if kind_problems := find_kind_problems(dataset, "images", "a VQ-VAE"):
        return kind_problems
    if manifest.channels != model.channels:
        expected = f"{model.channels}, the channels of the VQ-VAE"
        problems.append(Problem(f"{dataset.path}: channels", str(manifest.channels), expected))
    if any(side % model.downsample for side in manifest.image_size):
        size, expected = " x ".join(map(str, manifest.image_size)), f"multiples of the downsampling {model.downsample}"
        problems.append(Problem(f"{dataset.path}: image size", size, expected))
    return problems


def report_image_size(dataset: Dataset, card: ModelCard, run: Path, *, effect: str) -> None:
    """Print a warning if the slices of a dataset do not have the size that a model was trained on, if that is known.

    Args:
        effect: what follows from the size, for the message.
    """
    found, trained = dataset.manifest.image_size, card.data.image_size
    if trained is None or tuple(found) == tuple(trained):
        return
    sizes = [" x ".join(map(str, size)) for size in (found, trained)]
    other = f"{show_model_name(run)} was trained on slices of {sizes[1]}"
    print_message(f"WARNING: {dataset.path} has slices of {sizes[0]}, {other}; {effect}")


def find_pixelcnn_problems(model: PixelCNN, vqvae_fingerprint: str, dataset: Dataset) -> list[Problem]:
    """Return why the likelihood of the samples of a dataset cannot be computed with a PixelCNN.

    Args:
        vqvae_fingerprint: of the VQ-VAE whose codes the model was trained on.
    """
    manifest, problems = dataset.manifest, []
    if kind_problems := find_kind_problems(dataset, "codes", "a PixelCNN; vqdist encode writes one"):
        return kind_problems
    if manifest.num_codes != model.num_codes:
        expected = f"{model.num_codes}, as in the model"
        problems.append(Problem(f"{dataset.path}: num_codes", str(manifest.num_codes), expected))
    if manifest.vqvae_fingerprint not in (None, vqvae_fingerprint):
        expected = f"{vqvae_fingerprint}, the VQ-VAE of the model"
        problems.append(Problem(f"{dataset.path}: VQ-VAE of the codes", str(manifest.vqvae_fingerprint), expected))
    for name, count, limit in (
        ("label", manifest.num_labels, model.num_labels),
        ("slice", manifest.num_slices, model.num_slices),
    ):
        if name in model.condition and not count:
            problems.append(Problem(f"{dataset.path}: {name}", "none", "one per sample, a condition of the model"))
        elif name in model.condition and count is not None and count > limit:
            problems.append(Problem(f"{dataset.path}: {name}", f"numbers up to {count - 1}", f"up to {limit - 1}"))
    for name in model.spec.attributes:
        if name not in manifest.attributes and not model.spec.takes_unknown(name):
            expected = "one per sample, a condition of the model: vqdist shard --table"
            problems.append(Problem(f"{dataset.path}: {name}", "none", expected))
    return problems
