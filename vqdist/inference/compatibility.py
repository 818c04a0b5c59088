"""Whether a data set is one that a model can take: what is found and expected where it is not."""

from pathlib import Path

from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import DataError, Problem
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE


def require_kind(data: str | Path, manifest: Manifest, kind: str, reason: str) -> None:
    """Raise DataError unless a data set is of a kind, images or codes."""
    if manifest.kind != kind:
        raise DataError.of(str(data), f"a data set of {manifest.kind}", f"one of {kind}: {reason}")


def vqvae_problems(model: VQVAE, data: str | Path, manifest: Manifest) -> list[Problem]:
    """Return why the images of a data set cannot go through a VQ-VAE."""
    problems = []
    if manifest.channels != model.channels:
        expected = f"{model.channels}, which the VQ-VAE was trained on"
        problems.append(Problem(f"{data}: channels", str(manifest.channels), expected))
    if any(side % model.downsample for side in manifest.image_size):
        size = " x ".join(map(str, manifest.image_size))
        problems.append(Problem(f"{data}: image size", size, f"multiples of the downsampling {model.downsample}"))
    return problems


def pixelcnn_problems(
    model: PixelCNN, vqvae_fingerprint: str | None, data: str | Path, manifest: Manifest
) -> list[Problem]:
    """Return why a set of codes is not one that a PixelCNN can judge.

    Args:
        vqvae_fingerprint: of the VQ-VAE whose codes the model was trained on; None where it is not known.
    """
    problems = []
    if manifest.num_codes != model.num_codes:
        expected = f"{model.num_codes}, as in the model"
        problems.append(Problem(f"{data}: num_codes", str(manifest.num_codes), expected))
    if None not in (vqvae_fingerprint, manifest.vqvae_fingerprint) and vqvae_fingerprint != manifest.vqvae_fingerprint:
        expected = f"those of the VQ-VAE of the model, {vqvae_fingerprint}"
        problems.append(Problem(f"{data}: VQ-VAE of the codes", str(manifest.vqvae_fingerprint), expected))
    for name, count, limit in (
        ("label", manifest.num_labels, model.num_labels),
        ("slice", manifest.num_slices, model.num_slices),
    ):
        if name in model.condition and not count:
            problems.append(Problem(f"{data}: {name}", "none", "one per sample: the model is conditioned on it"))
        elif name in model.condition and count is not None and count > limit:
            problems.append(Problem(f"{data}: {name}", f"numbers up to {count - 1}", f"up to {limit - 1}"))
    return problems
