"""A training step of the VQ-VAE, optimizer included, against its usual form and against its convolutions alone."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.benchmarks.measure import Bench, Result, compare
from vqdist.benchmarks.reference_vqvae import ReferenceVQVAE
from vqdist.benchmarks.training_sessions import build_paper_session, make_batch, make_images
from vqdist.data.loading.batch import to_images
from vqdist.distributed.process_group import Ranks
from vqdist.models.vqvae import VQVAE
from vqdist.training.precision_support import has_fast_bf16
from vqdist.training.step import RankRequests, train_step

Work = Callable[[], object]


def run(bench: Bench) -> list[Result]:
    """Measure a step with the layers of van den Oord et al. 2017, on a GPU also compiled."""
    on_gpu = bench.device.type == "cuda"
    batch_size, image_size = bench.size(64 if on_gpu else 4, 2), bench.size(256, 32)
    precision = "bf16" if has_fast_bf16(bench.device) else "fp32"
    images = make_images(batch_size, image_size)
    case = f"batch {batch_size} of 1 x {image_size} x {image_size}, layers of 2017, optimizer included, {precision}"
    peers = {"usual form, fp32": reference_step(bench, images, autocast=False)}
    if on_gpu:
        peers["usual form, bf16 autocast"] = reference_step(bench, images, autocast=True)
    peers[f"its convolutions alone, {precision}"] = convolutions_alone(bench, images, bf16=precision == "bf16")
    ours = {case: our_step(bench, images, precision, compiled=False)}
    if on_gpu:
        ours[f"{case}, compiled"] = our_step(bench, images, precision, compiled=True)
    times_ms = {name: seconds * 1e3 for name, seconds in bench.time_in_turn(ours | peers, warmups=3).items()}
    peer_times_ms = {name: times_ms[name] for name in peers}
    results = [result for name in ours for result in compare("step", name, "ms", times_ms[name], peer_times_ms)]
    samples_per_s = batch_size / min(times_ms[name] for name in ours) * 1e3
    return [*results, Result("step", case, samples_per_s, "samples/s")]


def our_step(bench: Bench, images: Tensor, precision: str, *, compiled: bool) -> Work:
    """Return a step of the training loop."""
    session = build_paper_session(
        Ranks(0, 1, 0, bench.device),
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


def reference_step(bench: Bench, images: Tensor, *, autocast: bool) -> Work:
    """Return a step of the usual form, which also starts from uint8 images."""
    model = ReferenceVQVAE(bench.size(128, 8), 32, 512, 64).to(bench.device)
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
    """Return the forward and backward pass of every convolution of the model, each on its own, in channels_last."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    model = (
        ReferenceVQVAE(bench.size(128, 8), 32, 512, 64).to(bench.device, dtype).to(memory_format=torch.channels_last)
    )
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record_call(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        features = inputs[0].detach().contiguous(memory_format=torch.channels_last)
        # Training needs no gradient of the images, which have one channel.
        calls.append((module, features.requires_grad_(features.shape[1] > 1), torch.randn_like(output)))

    hooks = [
        layer.register_forward_hook(record_call)
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
