"""Sampling from a PixelCNN: cached, against a forward of the whole map for every code."""

import torch

from vqdist.benchmarks.measure import Bench, Result, compare
from vqdist.models.pixelcnn import PixelCNN

MAPS = ((16, 64), (64, 32), (1, 32))  # maps at once, side of a map
GPU_MAPS = ((64, 64),)


def run(bench: Bench) -> list[Result]:
    """Measure the part. A naive sample is h w times the median of 5 forwards, fp32, eval: it would take hours."""
    torch.manual_seed(0)
    model = PixelCNN(bench.size(512, 16), hidden=bench.size(64, 8), layers=bench.size(15, 2)).to(bench.device).eval()
    cases = MAPS + (GPU_MAPS if bench.device.type == "cuda" else ())
    return [result for maps, side in cases for result in _compare(bench, model, maps, bench.size(side, 4))]


@torch.inference_mode()
def _compare(bench: Bench, model: PixelCNN, maps: int, side: int) -> list[Result]:
    codes = torch.randint(model.num_codes, (maps, side, side), device=bench.device)
    works = {"ours": lambda: model.sample(maps, (side, side)), "forward": lambda: model(codes)}
    times = bench.time_in_turn(works)
    peers = {f"{side * side:,} forwards": side * side * times["forward"], "one forward": times["forward"]}
    case = f"{maps} map{'s' * (maps != 1)} of {side} x {side}, {len(model.layers)} layers, fp32"
    return compare("sampler", case, "s", times["ours"], peers)
