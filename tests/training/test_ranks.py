"""Two, three and four real ranks train what one does, with and without gradient accumulation."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from support import QUIET, on_ranks, read_metrics, start, tiny_flags
from support.faulty_training import train_and_save_state

from vqdist.distributed.process_group import Ranks, destroy_process_group, init_process_group
from vqdist.foundation.errors import StalledError

pytestmark = pytest.mark.ranks


def train_on(ranks: int, name: str, tmp_path: Path, *flags: object) -> list[dict[str, Any]]:
    """Train on as many ranks and return what each of them holds in the end."""
    words = [*QUIET, "--run.dir", str(tmp_path), "--run.name", name, *map(str, flags)]
    (tmp_path / f"{name}-told").mkdir()
    with start(train_and_save_state, words, str(tmp_path / f"{name}-told"), ranks=ranks) as started:
        ended = started.wait()
    assert ended.code == 0, ended.describe()
    return [json.loads((tmp_path / f"{name}-told" / f"rank-{rank}.json").read_text()) for rank in range(ranks)]


def check_close(run: Path, other: Path) -> None:
    """Check that the numbers of two runs differ by rounding alone."""
    lines, others = read_metrics(run), read_metrics(other)
    assert len(lines) == len(others) >= 6
    for line, like in zip(lines, others, strict=True):
        assert line.keys() == like.keys()
        assert line.pop("split") == like.pop("split")
        assert line == pytest.approx(like, rel=1e-4, abs=1e-6)


# (ranks, data.micro_batch_size)
CASES = {
    "vqvae": [(2, None), (3, None), (4, None), (1, 3), (2, 2), (3, 1)],
    "pixelcnn": [(3, None), (2, 2)],
}


@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_ranks_and_accumulation_change_nothing(task: str, image_set: Path, code_set: Path, tmp_path: Path) -> None:
    data = {"vqvae": image_set, "pixelcnn": code_set}[task]
    flags: list[object] = [
        *tiny_flags(task),
        "--data.path",
        data,
        "--checkpoint.every_steps",
        20,
        "--optim.weight_ema",
        0.8,
    ]
    if task == "vqvae":  # codes die and restart, and the batch is no multiple of the ranks
        flags += ["--model.restart_every", 4, "--model.restart_threshold", 0.5, "--data.global_batch_size", 7]
        flags += ["--data.mirror", "rows", "--data.crop", 16]
    train_on(1, "alone", tmp_path, *flags)
    for ranks, micro_batch_size in CASES[task]:
        name = f"{ranks}-{micro_batch_size}"
        told = train_on(ranks, name, tmp_path, *flags, "--data.micro_batch_size", micro_batch_size or "null")
        check_close(tmp_path / name, tmp_path / "alone")
        for other in told[1:]:  # parameters, codebook, moments and counters of all ranks are equal to the bit
            assert other == told[0]


@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_with_muon_the_weights_stay_equal_though_each_rank_works_out_its_own_share(
    task: str, image_set: Path, code_set: Path, tmp_path: Path
) -> None:
    data = {"vqvae": image_set, "pixelcnn": code_set}[task]
    flags = [*tiny_flags(task), "--data.path", data, "--optim.name", "muon"]
    train_on(1, "alone", tmp_path, *flags)
    told = train_on(3, "three", tmp_path, *flags)
    check_close(tmp_path / "three", tmp_path / "alone")
    assert told[1] == told[0] == told[2]


def test_a_codebook_learned_by_gradient_too(image_set: Path, tmp_path: Path) -> None:
    flags = [*tiny_flags(), "--data.path", image_set, "--model.codebook", "grad", "--model.restart_every", 4]
    train_on(1, "alone", tmp_path, *flags)
    told = train_on(3, "three", tmp_path, *flags, "--data.micro_batch_size", 2)
    check_close(tmp_path / "three", tmp_path / "alone")
    assert told[1] == told[0] == told[2]


CALLS: tuple[Callable[[Ranks], object], ...] = (
    lambda ranks: ranks.all_reduce(torch.ones(3)),
    lambda ranks: ranks.broadcast(torch.ones(3)),
    lambda ranks: ranks.broadcast_object({"a": 1}),
    lambda ranks: ranks.gather_objects("b"),
    lambda ranks: ranks.any(True, False),
    lambda ranks: ranks.barrier(),
)


def talk(call: int, fault: str, victim: int) -> list[Any]:
    """Have a rank die or hang before a collective; return what the others saw and after how long."""
    ranks = init_process_group("cpu", timeout_s=1.0)
    ranks.barrier()
    if ranks.rank == victim:
        time.sleep(3.0 if fault == "hangs" else 0.0)
        destroy_process_group()
        return []
    before = time.monotonic()
    try:
        CALLS[call](ranks)
        ranks.barrier()  # a broadcast may be over for a rank whose own part in it was done
    except StalledError as error:
        return [str(error), time.monotonic() - before]
    return ["nothing", time.monotonic() - before]


def test_a_rank_that_dies_or_hangs_is_an_error_in_time() -> None:
    """At every kind of collective."""
    cases = [(call, fault, call % 2) for call in range(len(CALLS)) for fault in ("dies", "hangs")]
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda case: on_ranks(talk, *case, ranks=3), cases))
    for (_, fault, _), told in zip(cases, outcomes, strict=True):
        seen = [words for words in told if words]
        assert len(seen) == 2
        for text, seconds in seen:
            assert text.startswith("another rank died or did not respond within run.timeout_s")
            assert seconds < (1.0 if fault == "dies" else 3.0)


def test_a_rank_that_never_comes_is_an_error_in_time() -> None:
    told = on_ranks(join_or_not, ranks=2)
    assert told[0].startswith("another rank died or did not respond within run.timeout_s")


def join_or_not() -> str:
    if os.environ["RANK"] == "1":
        time.sleep(4)
        return ""
    try:
        init_process_group("cpu", timeout_s=1.0)
    except StalledError as error:
        return str(error)
    return "nothing"
