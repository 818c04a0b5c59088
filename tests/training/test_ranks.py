"""Several ranks train as one process does, with and without gradient accumulation."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import QUIET, read_metrics, start, tiny_flags
from support.faulty_training import train_and_save_state

pytestmark = pytest.mark.ranks


def train_on(ranks: int, name: str, tmp_path: Path, *flags: object) -> list[dict[str, Any]]:
    """Train on the given number of ranks and return the final state of each."""
    words = [*QUIET, "--run.dir", str(tmp_path), "--run.name", name, *map(str, flags)]
    (tmp_path / f"{name}-state").mkdir()
    with start(train_and_save_state, words, str(tmp_path / f"{name}-state"), ranks=ranks) as started:
        ended = started.wait()
    assert ended.code == 0, ended.describe()
    return [json.loads((tmp_path / f"{name}-state" / f"rank-{rank}.json").read_text()) for rank in range(ranks)]


def check_close(run: Path, other: Path) -> None:
    """Check that the metrics of two runs are equal up to rounding."""
    lines, others = read_metrics(run), read_metrics(other)
    assert len(lines) == len(others) >= 6
    for line, like in zip(lines, others, strict=True):
        assert line.keys() == like.keys()
        assert line.pop("split") == like.pop("split")
        assert line == pytest.approx(like, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "cases"),  # each case: number of ranks, data.micro_batch_size
    [
        ("vqvae", [(2, None), (4, None), (1, 3), (3, 1)]),
        ("pixelcnn", [(3, None), (2, 2)]),
        pytest.param("vqvae", [(3, None), (2, 2)], marks=pytest.mark.long),
    ],
)
def test_ranks_and_accumulation_change_nothing(
    task: str, cases: list[tuple[int, int | None]], image_set: Path, code_set: Path, tmp_path: Path
) -> None:
    data = {"vqvae": image_set, "pixelcnn": code_set}[task]
    flags: list[object] = [*tiny_flags(task), "--data.path", data, "--checkpoint.every_steps", 20]
    flags += ["--optim.weight_ema", 0.8]
    flags += ["--run.seed", 1]  # of which no place has two codes that are equally near up to rounding
    if task == "vqvae":  # codes die and restart, and the batch size is no multiple of the number of ranks
        flags += ["--model.restart_every", 4, "--model.restart_threshold", 0.5, "--data.global_batch_size", 7]
        flags += ["--data.mirror", "rows", "--data.crop", 16]
    train_on(1, "alone", tmp_path, *flags)
    for ranks, micro_batch_size in cases:
        name = f"{ranks}-{micro_batch_size}"
        states = train_on(ranks, name, tmp_path, *flags, "--data.micro_batch_size", micro_batch_size or "null")
        check_close(tmp_path / name, tmp_path / "alone")
        for other in states[1:]:  # parameters, codebook, moments and counters of all ranks are equal, bit for bit
            assert other == states[0]


@pytest.mark.parametrize("task", ["pixelcnn", pytest.param("vqvae", marks=pytest.mark.long)])
def test_muon_keeps_weights_equal_although_each_rank_orthogonalizes_its_own_share(
    task: str, image_set: Path, code_set: Path, tmp_path: Path
) -> None:
    data = {"vqvae": image_set, "pixelcnn": code_set}[task]
    flags = [*tiny_flags(task), "--data.path", data, "--optim.name", "muon"]
    train_on(1, "alone", tmp_path, *flags)
    states = train_on(3, "three", tmp_path, *flags)
    check_close(tmp_path / "three", tmp_path / "alone")
    assert states[1] == states[0] == states[2]


def test_a_codebook_learned_by_gradient(image_set: Path, tmp_path: Path) -> None:
    flags = [*tiny_flags(), "--data.path", image_set, "--model.codebook", "grad", "--model.restart_every", 4]
    train_on(1, "alone", tmp_path, *flags)
    states = train_on(3, "three", tmp_path, *flags, "--data.micro_batch_size", 2)
    check_close(tmp_path / "three", tmp_path / "alone")
    assert states[1] == states[0] == states[2]
