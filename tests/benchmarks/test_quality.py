"""The part quality: peers train for the wall time of a run and are compared on its test split."""

import json
from pathlib import Path

import pytest
import torch
from support import ALONE, save_vqvae, write_images

from vqdist.benchmarks import quality
from vqdist.benchmarks.measure import Bench
from vqdist.config.command_options import EvaluateOptions
from vqdist.evaluation.evaluate import evaluate
from vqdist.foundation.errors import UserError


def configure(run: Path, data: Path) -> Bench:
    torch.set_num_threads(1)
    return Bench(torch.device("cpu"), repeats=1, small=True, run=run, data=data)


def write_metrics(run: Path) -> None:
    """Write the metrics of a run of 0.8 s."""
    lines = [
        {"step": step, "split": split, "perf": {"seconds": 0.2}} for step in (1, 2) for split in ("train", "validate")
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_peers_are_compared_with_the_evaluation_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("monai")
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    write_metrics(run)
    durations_s: list[float] = []
    real = quality.train_peer

    def train_briefly(peer: quality.Peer, images: torch.Tensor, duration_s: float, name: str) -> None:
        durations_s.append(duration_s)
        real(peer, images, 0.05, name)

    monkeypatch.setattr(quality, "train_peer", train_briefly)
    results = quality.run(configure(run, images))
    assert durations_s == pytest.approx([0.8, 0.8])
    assert [result.unit for result in results] == ["SSIM"] * 4 + ["dB"] * 2 + ["codes"] * 2
    assert [result.peer for result in results] == ["usual form", "MONAI"] * 4
    found = evaluate(EvaluateOptions(run=run, data=images, split="test", figures=None), ALONE)["metrics"]
    for result in results:
        name = result.case.rpartition(" ")[2]
        assert result.ours == pytest.approx(found[name]["mean"], rel=1e-6)


def test_peer_trains_until_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(quality.time, "perf_counter", lambda: clock[0])
    model = torch.nn.Linear(1, 1)
    losses: list[float] = []

    def loss(images: torch.Tensor) -> torch.Tensor:
        clock[0] += 1.0
        value = (model(images.reshape(-1, 1)) - 1).square().mean()
        losses.append(value.item())
        return value

    peer = quality.Peer(model, 0.05, loss, lambda images: (images, images))
    quality.train_peer(peer, torch.full((20, 1, 2, 2), 255, dtype=torch.uint8), 60.0, "peer")
    assert len(losses) == 60
    assert losses[-1] < 0.01 * losses[0]


def test_run_without_metrics_is_refused(tmp_path: Path) -> None:
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    with pytest.raises(UserError, match=r"metrics.jsonl: found no line of training metrics"):
        quality.run(configure(run, images))
