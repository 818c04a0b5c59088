"""A training step of the VQ-VAE, optimizer and codebook included, against the usual form and its convolutions alone."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.benchmarks.measure import Bench, Result, compare
from vqdist.benchmarks.reference_vqvae import UsualVQVAE
from vqdist.benchmarks.training_sessions import build_paper_session, make_batch, make_images
from vqdist.data.loading.batch import to_images
from vqdist.distributed.process_group import Ranks
from vqdist.models.vqvae import VQVAE
from vqdist.training.precision import has_fast_bf16
from vqdist.training.step import RankRequests, train_step

Work = Callable[[], object]


def run(bench: Bench) -> list[Result]:
    """Measure the part."""
    on_gpu = bench.device.type == "cuda"
    batch_size, image_size = bench.size(64 if on_gpu else 4, 2), bench.size(256, 32)
    precision = "bf16" if has_fast_bf16(bench.device) else "fp32"
    images = make_images(batch_size, image_size)
    case = f"batch {batch_size} of 1 x {image_size} x {image_size}, layers of 2017, optimizer included, {precision}"
    peers = {"usual form, fp32": usual_step(bench, images, autocast=False)}
    if on_gpu:
        peers["usual form, bf16 autocast"] = usual_step(bench, images, autocast=True)
    peers |= {f"its convolutions alone, {precision}": convolutions_alone(bench, images, bf16=precision == "bf16")}
    works = {"ours": our_step(bench, images, precision, compiled=False), **peers}
    if on_gpu:
        works["ours, compiled"] = our_step(bench, images, precision, compiled=True)
    times = {name: seconds * 1e3 for name, seconds in bench.time_in_turn(works, warmups=3).items()}
    against = {name: times[name] for name in peers}
    results = compare("step", case, "ms", times["ours"], against)
    if on_gpu:
        results += compare("step", f"{case}, compiled", "ms", times["ours, compiled"], against)
    rate = batch_size / min(value for name, value in times.items() if name.startswith("ours")) * 1e3
    return [*results, Result("step", case, rate, "samples/s")]


def our_step(bench: Bench, images: Tensor, precision: str, *, compiled: bool) -> Work:
    """Return a step as the training loop takes it."""
    ranks = Ranks(0, 1, 0, bench.device)
    session = build_paper_session(
        ranks,
        image_size=images.shape[-1],
        batch_size=len(images),
        precision=precision,
        compiled=compiled,
        hidden=bench.size(128, 8),
    )
    model = session.task.model
    assert isinstance(model, VQVAE)
    quantizer = model.quantizer
    quantizer.initialize(torch.randn(8 * quantizer.num_codes, quantizer.code_dim), 0)
    batch = make_batch(images)
    return lambda: train_step(session, [batch], RankRequests())


def usual_step(bench: Bench, images: Tensor, *, autocast: bool) -> Work:
    """Return a step of the usual form: uint8 images in, as in ours."""
    model = UsualVQVAE(bench.size(128, 8), 32, 512, 64).to(bench.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def work() -> float:
        _allow_tf32(False)
        inputs = to_images(images.to(bench.device))
        with torch.autocast(bench.device.type, torch.bfloat16, enabled=autocast):
            recon, loss, _ = model(inputs)
        loss = F.mse_loss(recon.float(), inputs) / 0.04 + loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        _allow_tf32(True)
        return loss.item()

    return work


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def convolutions_alone(bench: Bench, images: Tensor, *, bf16: bool) -> Work:
    """Return forward and backward of every convolution of the model by itself, channels_last, and nothing else."""
    model = UsualVQVAE(bench.size(128, 8), 32, 512, 64).to(bench.device).to(memory_format=torch.channels_last)
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        features = inputs[0].detach().contiguous(memory_format=torch.channels_last)
        # Nobody needs the gradient of the images.
        calls.append((module, features.requires_grad_(features.shape[1] > 1), torch.randn_like(output)))

    dtype = torch.bfloat16 if bf16 else torch.float32
    model = model.to(dtype)
    hooks = [
        layer.register_forward_hook(note)
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]
    model.eval()(to_images(images.to(bench.device)).to(dtype))
    for hook in hooks:
        hook.remove()

    def work() -> None:
        for layer, features, gradient in calls:
            layer.zero_grad(set_to_none=True)
            features.grad = None
            layer(features).backward(gradient)

    return work
