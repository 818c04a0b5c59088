"""What the peers reach in the wall time that a run of ours took, on the same slices, device and code map.

Each peer trains by a plain loop from slices that lie decoded in memory; SSIM, PSNR and codes in use are of test.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.benchmarks.measure import Bench, Result, Unit, left_out
from vqdist.benchmarks.reference_vqvae import UsualVQVAE
from vqdist.data.loading.batch import to_images
from vqdist.foundation.errors import Problem, UserError
from vqdist.foundation.progress import ProgressBar
from vqdist.inference.compatibility import find_vqvae_problems
from vqdist.inference.dataset import Dataset, SplitLoader
from vqdist.metrics.codes import codes_used, count_codes
from vqdist.metrics.images import compute_image_metrics
from vqdist.metrics.means import Means
from vqdist.models.io import build_model, read_model_files
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.curves import read_metrics, training_seconds
from vqdist.runs.run_dir import RunDir

BATCH_SIZE = 8
READ_BATCH = 64


@dataclass(frozen=True)
class Peer:
    """A model as its authors train it.

    Attributes:
        loss: images (B, C, H, W) in [0, 1] -> the loss of a training forward.
        reconstruct: images -> reconstruction and codes (B, h, w).
    """

    model: nn.Module
    learning_rate: float
    loss: Callable[[Tensor], Tensor]
    reconstruct: Callable[[Tensor], tuple[Tensor, Tensor]]


def run(bench: Bench) -> list[Result]:
    """Measure the part.

    Raises:
        UserError: the run is not one of a VQ-VAE, tells no wall time, or does not fit the data.
    """
    assert bench.run is not None, "the command asks for both"
    assert bench.data is not None, "the command asks for both"
    files = read_model_files(bench.run, kind="vqvae")
    data = Dataset.open(bench.data)
    ours = build_model(files)
    assert isinstance(ours, VQVAE)
    metrics_file = RunDir(bench.run).metrics
    seconds = training_seconds(read_metrics(metrics_file)) if metrics_file.is_file() else 0.0
    problems = find_vqvae_problems(ours, data)
    if not seconds:
        problems.append(Problem(str(metrics_file), "no line of a run's record", "the folder of a run that has trained"))
    if problems:
        raise UserError(problems)
    case = f"{bench.run.name}, {seconds / 60:.1f} min, K {ours.num_codes}, downsampling {ours.downsample}, test"
    train, test = read_split(data, "train"), read_split(data, "test")
    scores = {
        "ours": score(test, lambda images: (ours.reconstruct(images), ours.encode(images)), ours.to(bench.device))
    }
    for name, build in (("usual form", build_usual), ("MONAI", build_monai)):
        try:
            peer = build(ours)
        except ImportError as error:
            left_out("quality", f"{case}: {name}", f"{error}; pip install vqdist[bench]")
            continue
        peer.model.to(bench.device)
        fit(peer, train, seconds, name)
        scores[name] = score(test, peer.reconstruct, peer.model)
    best = scores.pop("ours")
    figures: dict[str, Unit] = {"ssim": "SSIM", "ssim_brain": "SSIM", "psnr": "dB", "codes_used": "codes"}
    return [
        Result("quality", f"{case}: {figure}", best[figure], unit, name, theirs[figure])
        for figure, unit in figures.items()
        for name, theirs in scores.items()
    ]


def read_split(data: Dataset, split: str) -> Tensor:
    """Return all slices of a split: (N, C, H, W) uint8."""
    return torch.cat([batch.values for batch in SplitLoader(data, split).load_all(READ_BATCH)])


def score(images: Tensor, reconstruct: Callable[[Tensor], tuple[Tensor, Tensor]], model: nn.Module) -> dict[str, float]:
    """Return the means over slices of ssim, ssim_brain and psnr, and how many codes are used."""
    device = next(model.parameters()).device
    model.eval()
    means = Means()
    codes: list[Tensor] = []
    with torch.inference_mode():
        for values in images.split(BATCH_SIZE):
            batch = to_images(values.to(device))
            recon, batch_codes = reconstruct(batch)
            means.add(compute_image_metrics(batch, recon))
            codes.append(batch_codes.cpu())
    every = torch.cat(codes)
    return {**means.compute(), "codes_used": codes_used(count_codes(every, int(every.max()) + 1))}


def fit(peer: Peer, images: Tensor, seconds: float, name: str) -> None:
    """Train a peer by a plain loop for so many seconds."""
    optimizer = torch.optim.Adam(peer.model.parameters(), lr=peer.learning_rate)
    device = next(peer.model.parameters()).device
    peer.model.train()
    start = time.perf_counter()
    with ProgressBar(int(seconds), unit="s", label=name) as shown:
        for numbers in _shuffled(len(images)):
            loss = peer.loss(to_images(images[numbers].to(device)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            elapsed = time.perf_counter() - start
            shown.advance(int(elapsed) - shown.done)
            if elapsed >= seconds:
                return


def _shuffled(count: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from torch.randperm(count, generator=generator).split(BATCH_SIZE)


def build_usual(ours: VQVAE) -> Peer:
    """Return the layers of 2017 in their usual form; loss and learning rate are those of the paper."""
    config = ours.config
    sizes = {"hidden": 128, "residual_hidden": 32, "code_dim": config["code_dim"], "num_codes": config["num_codes"]}
    model = UsualVQVAE(**sizes, downsample=ours.downsample, channels=ours.channels)

    def loss(images: Tensor) -> Tensor:
        recon, codebook_loss, _ = model(images)
        return F.mse_loss(recon, images) / ours.data_variance + codebook_loss

    def reconstruct(images: Tensor) -> tuple[Tensor, Tensor]:
        recon, _, codes = model(images)
        return recon, codes

    return Peer(model, 2e-4, loss, reconstruct)


def build_monai(ours: VQVAE) -> Peer:
    """Return MONAI's net with its EMA quantizer; loss and learning rate are those of its tutorials."""
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
