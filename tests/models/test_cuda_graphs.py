"""The sampler with a graph of a row, on a device that imitates CUDA: same codes, static memory, no waits in a row."""

from typing import Any

import cuda_stand_in
import pytest
import torch
from cuda_stand_in import NAME, REPLAY
from support import on_ranks

from vqdist.models.cuda_graphs import can_capture
from vqdist.models.pixelcnn import PixelCNN

GRID, NUM = (12, 6), 3
LAYERS = 3


def build(symmetry: str, kernel: int) -> PixelCNN:
    torch.manual_seed(0)
    model = PixelCNN(11, hidden=8, layers=LAYERS, kernel=kernel, condition="slice", num_slices=9, symmetry=symmetry)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def sample_on_the_device() -> list[dict[str, Any]]:
    """Sample and complete on the CPU and on the device; return the differences and what happened on the device."""
    results = []
    torch.manual_seed(1)
    noise = torch.rand(NUM, GRID[0] * GRID[1], 11).log().neg().log().neg()
    slices = torch.tensor([0, 4, 8])
    cases = [("none", 3, 1.0, 0), ("up-down", 5, 0.7, 4), ("none", 7, 0.0, 0)]
    expected = []
    for symmetry, kernel, *chosen in cases:
        model = build(symmetry, kernel)
        codes = model.sample(NUM, GRID, noise, *chosen, slice=slices)
        keep = torch.rand(codes.shape) < 0.5
        expected.append((codes, keep, model.complete(codes, keep, noise.flip(0), *chosen, slice=slices)))
    with cuda_stand_in.everywhere() as count:
        for (symmetry, kernel, *chosen), (codes, keep, completed) in zip(cases, expected, strict=True):
            model = build(symmetry, kernel).to(NAME)
            there = noise.to(NAME)
            count.reset()
            found = model.sample(NUM, GRID, there, *chosen, slice=slices)
            replays, events = count.operators[REPLAY], list(count.events)
            first = events.index(REPLAY)
            count.reset()
            refilled = model.complete(codes.to(NAME), keep.to(NAME), noise.flip(0).to(NAME), *chosen, slice=slices)
            results.append(
                {
                    "wrong": int((found.cpu() != codes).sum()),
                    "wrong completions": int((refilled.cpu() != completed).sum()),
                    "replays": replays,
                    "replays of completions": count.operators[REPLAY],
                    "launches per row": sum(not event.startswith("wait") for event in events[first:]) / GRID[0],
                    "waits after the first replay": sum(event.startswith("wait") for event in events[first:]),
                    "few rows": _count_replays(model, count, slices),
                    "captures": [can_capture(torch.device(name)) for name in ("cpu", "mps", NAME)],
                }
            )
    return results


def _count_replays(model: PixelCNN, count: cuda_stand_in.Count, slices: torch.Tensor) -> int:
    count.reset()
    model.sample(NUM, (4, 6), temperature=0.0, slice=slices)
    return count.operators[REPLAY]


def test_a_graph_samples_the_codes_of_the_cpu() -> None:
    (results,) = on_ranks(sample_on_the_device, ranks=1)
    for found in results:
        assert found["wrong"] == 0
        assert found["wrong completions"] == 0
        assert found["replays"] == GRID[0]
        assert found["replays of completions"] == 0, "given codes are sampled without a graph"
        assert found["waits after the first replay"] == 0
        assert found["few rows"] == 0
        assert found["captures"] == [False, False, True]
        assert found["launches per row"] < 13 * LAYERS + 35, "one launch for all columns"


def break_a_capture(kind: str) -> str:
    """Capture work that CUDA refuses; return the error."""
    from vqdist.models import cuda_graphs

    with cuda_stand_in.everywhere():
        here = torch.ones(3, device=NAME)
        work = {"wait": lambda: here.sum().item(), "random": here.uniform_}[kind]
        try:
            cuda_graphs.capture(work)
        except RuntimeError as error:
            return str(error)
    return ""


@pytest.mark.parametrize("kind", ["wait", "random"])
def test_the_stand_in_refuses_what_a_graph_cannot_hold(kind: str) -> None:
    (error,) = on_ranks(break_a_capture, kind, ranks=1)
    assert "during a capture" in error


def replay_elsewhere() -> list[float]:
    """Replay after the input has changed, and after the result of the capture was replaced by another tensor."""
    from vqdist.models import cuda_graphs

    with cuda_stand_in.everywhere():
        here, out = torch.ones(3, device=NAME), torch.zeros(3, device=NAME)
        replay = cuda_graphs.capture(lambda: out.copy_((here * 2).add_(1)))
        here.fill_(5.0)
        replay()
        return out.cpu().tolist()


def test_a_replay_reads_and_writes_the_captured_memory() -> None:
    (found,) = on_ranks(replay_elsewhere, ranks=1)
    assert found == [11.0] * 3
