"""Reconstruction quality of peers that train for the wall time of a run of vqdist, on the same slices and device.

Each peer trains in a plain loop on slices that are decoded in memory. SSIM, PSNR and the number
of codes used are computed on the test split.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.benchmarks.measure import Bench, Result, Unit, build_installed
from vqdist.benchmarks.reference_vqvae import ReferenceVQVAE
from vqdist.data.loading.batch import to_images
from vqdist.data.open_dataset import Dataset, open_dataset
from vqdist.foundation.errors import Problem, UserError
from vqdist.foundation.progress import ProgressBar
from vqdist.inference.compatibility import find_vqvae_problems
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.codes import codes_used, count_codes
from vqdist.metrics.images import compute_image_metrics
from vqdist.metrics.means import Means
from vqdist.models.io import build_model, read_model_files
from vqdist.models.vqvae import VQVAE
from vqdist.runs.metrics_file import read_metrics, training_seconds
from vqdist.runs.run_dir import RunDir

BATCH_SIZE = 8
READ_BATCH_SIZE = 64
FIGURES: dict[str, Unit] = {"ssim": "SSIM", "ssim_brain": "SSIM", "psnr": "dB", "codes_used": "codes"}


@dataclass(frozen=True)
class Peer:
    """A model with the loss and learning rate of its authors.

    Attributes:
        loss: maps images (B, C, H, W) in [0, 1] to the training loss.
        reconstruct: maps images to reconstructions and codes (B, h, w).
    """

    model: nn.Module
    learning_rate: float
    loss: Callable[[Tensor], Tensor]
    reconstruct: Callable[[Tensor], tuple[Tensor, Tensor]]


def run(bench: Bench) -> list[Result]:
    """Train each peer for the wall time of `bench.run`, and compare all on the test split of `bench.data`.

    Raises:
        UserError: the run is not a VQ-VAE, has no wall time, or does not fit the dataset.
    """
    assert bench.run is not None, "the command requires --run for this part"
    assert bench.data is not None, "the command requires --data for this part"
    data = open_dataset(bench.data)
    ours, duration_s = _load_run(bench.run, data)
    case = f"{bench.run.name}, {duration_s / 60:.1f} min, K {ours.num_codes}, downsampling {ours.downsample}, test"
    train, test = read_split(data, "train"), read_split(data, "test")
    best = evaluate(ours.to(bench.device), lambda images: (ours.reconstruct(images), ours.encode(images)), test)
    builders = {"usual form": partial(build_reference, ours), "MONAI": partial(build_monai, ours)}
    scores = {}
    for name, peer in build_installed("quality", case, builders).items():
        peer.model.to(bench.device)
        train_peer(peer, train, duration_s, name)
        scores[name] = evaluate(peer.model, peer.reconstruct, test)
    return [
        Result("quality", f"{case}: {figure}", best[figure], unit, name, theirs[figure])
        for figure, unit in FIGURES.items()
        for name, theirs in scores.items()
    ]


def _load_run(run: Path, data: Dataset) -> tuple[VQVAE, float]:
    """Return the VQ-VAE of a run and the wall time of its training in seconds."""
    model = build_model(read_model_files(run, kind="vqvae"))
    assert isinstance(model, VQVAE)
    metrics_file = RunDir(run).metrics
    duration_s = training_seconds(read_metrics(metrics_file)) if metrics_file.is_file() else 0.0
    problems = find_vqvae_problems(model, data)
    if not duration_s:
        expected = "the folder of a run that has trained"
        problems.append(Problem(str(metrics_file), "no line of training metrics", expected))
    if problems:
        raise UserError(problems)
    return model, duration_s


def read_split(data: Dataset, split: str) -> Tensor:
    """Return all slices of a split: (N, C, H, W) uint8."""
    return torch.cat([batch.values for batch in SplitLoader(data, split, batch_size=READ_BATCH_SIZE).load_all()])


def evaluate(
    model: nn.Module, reconstruct: Callable[[Tensor], tuple[Tensor, Tensor]], images: Tensor
) -> dict[str, float]:
    """Return the means of ssim, ssim_brain and psnr over slices, and the number of codes used."""
    device = next(model.parameters()).device
    model.eval()
    means, codes = Means(), []
    with torch.inference_mode():
        for values in images.split(BATCH_SIZE):
            batch = to_images(values.to(device))
            recon, batch_codes = reconstruct(batch)
            means.add(compute_image_metrics(batch, recon))
            codes.append(batch_codes.cpu())
    all_codes = torch.cat(codes)
    return {**means.compute(), "codes_used": codes_used(count_codes(all_codes, int(all_codes.max()) + 1))}


def train_peer(peer: Peer, images: Tensor, duration_s: float, name: str) -> None:
    """Train a peer in a plain loop for `duration_s` seconds."""
    optimizer = torch.optim.Adam(peer.model.parameters(), lr=peer.learning_rate)
    device = next(peer.model.parameters()).device
    peer.model.train()
    start_s = time.perf_counter()
    with ProgressBar(int(duration_s), unit="s", label=name) as progress_bar:
        for numbers in _shuffled(len(images)):
            loss = peer.loss(to_images(images[numbers].to(device)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            elapsed_s = time.perf_counter() - start_s
            progress_bar.advance(int(elapsed_s) - progress_bar.done)
            if elapsed_s >= duration_s:
                return


def _shuffled(count: int) -> Iterator[Tensor]:
    """Yield batches of indexes, in a new random order each epoch."""
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from torch.randperm(count, generator=generator).split(BATCH_SIZE)


def build_reference(ours: VQVAE) -> Peer:
    """Build the VQ-VAE of van den Oord et al. 2017 in its usual form, with the loss and learning rate of the paper."""
    config = ours.config
    sizes = {"hidden": 128, "residual_hidden": 32, "code_dim": config["code_dim"], "num_codes": config["num_codes"]}
    model = ReferenceVQVAE(**sizes, downsample=ours.downsample, channels=ours.channels)

    def loss(images: Tensor) -> Tensor:
        recon, codebook_loss, _ = model(images)
        return F.mse_loss(recon, images) / ours.data_variance + codebook_loss

    def reconstruct(images: Tensor) -> tuple[Tensor, Tensor]:
        recon, _, codes = model(images)
        return recon, codes

    return Peer(model, 2e-4, loss, reconstruct)


def build_monai(ours: VQVAE) -> Peer:
    """Build the VQVAE of MONAI, with its EMA quantizer and the loss and learning rate of MONAI's tutorials."""
    from monai.networks import nets

    halvings = ours.downsample.bit_length() - 1
    widths = [64, *[128] * (halvings - 1)]
    model = nets.VQVAE(
        2,
        ours.channels,
        ours.channels,
        channels=widths,
        num_res_layers=2,
        num_res_channels=widths,
        downsample_parameters=((2, 4, 1, 1),) * halvings,
        upsample_parameters=((2, 4, 1, 1, 0),) * halvings,
        num_embeddings=ours.num_codes,
        embedding_dim=ours.config["code_dim"],
    )

    def loss(images: Tensor) -> Tensor:
        recon, codebook_loss = model(images)
        return F.l1_loss(recon, images) + codebook_loss

    return Peer(model, 1e-4, loss, lambda images: (model(images)[0], model.index_quantize(images)))
