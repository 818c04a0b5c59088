"""Sampling from a PixelCNN with cached activations, against one forward pass of the whole map per code."""

import torch

from vqdist.benchmarks.measure import Bench, Result, compare
from vqdist.models.pixelcnn import PixelCNN

MAPS = ((16, 64), (64, 32), (1, 32))  # (maps at once, side of a map)
GPU_MAPS = ((64, 64),)


def run(bench: Bench) -> list[Result]:
    """Measure sampling in fp32. The naive sampler is extrapolated from one forward pass: it would take hours."""
    torch.manual_seed(0)
    model = PixelCNN(bench.size(512, 16), hidden=bench.size(64, 8), layers=bench.size(15, 2)).to(bench.device).eval()
    cases = MAPS + (GPU_MAPS if bench.device.type == "cuda" else ())
    return [result for maps, side in cases for result in _compare(bench, model, maps, bench.size(side, 4))]


@torch.inference_mode()
def _compare(bench: Bench, model: PixelCNN, maps: int, side: int) -> list[Result]:
    codes = torch.randint(model.num_codes, (maps, side, side), device=bench.device)
    times_s = bench.time_in_turn({"ours": lambda: model.sample(maps, (side, side)), "forward": lambda: model(codes)})
    peers = {f"{side * side:,} forwards": side * side * times_s["forward"], "one forward": times_s["forward"]}
    case = f"{maps} map{'s' * (maps != 1)} of {side} x {side}, {len(model.layers)} layers, fp32"
    return compare("sampler", case, "s", times_s["ours"], peers)
