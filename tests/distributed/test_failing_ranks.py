"""A rank that fails while the others wait for it: all ranks end, and the reason is in the log.

The process group blocks without end when it is left after an error, as NCCL's does, and the timeout is an hour: that
the processes end shows that none waits for another.
"""

import json
from pathlib import Path

import pytest
from support import QUIET, Ended, save_prior, save_vqvae, start, tiny_flags, wait_until, write_codes
from support.failing_ranks import run_with_failing_rank, train_with_failing_rank, train_with_waiting_ranks

from vqdist.foundation.run_status import read_status

pytestmark = pytest.mark.ranks

LOST = "error: another rank died or did not respond within run.timeout_s"
REASON = "error: shard-000007: found a damaged sample; expected the bytes of its index"


def train_words(data: Path, tmp_path: Path, *flags: object) -> list[str]:
    where = ("--data.path", data, "--run.dir", tmp_path, "--run.name", "run", "--run.timeout_s", 3600)
    return [str(word) for word in (*QUIET, *tiny_flags(), *where, "--checkpoint.every_steps", 2, *flags)]


def check_codes(ended: Ended, victim: int, code: int) -> None:
    assert [ended.codes[rank] for rank in range(len(ended.codes)) if rank != victim] == [1] * (len(ended.codes) - 1)
    assert ended.codes[victim] == code, ended.describe()


def check_status(run: Path, reason: str) -> None:
    """Require the status of a run that failed at step 4, with an error that has these words."""
    status = read_status(run)
    assert reason in status.pop("error")
    assert status == {"state": "failed", "step": 4, "ended_early": False}


@pytest.mark.parametrize(("kind", "code", "victim"), [("error", 2, 1), ("bug", 1, 2), ("error", 2, 0), ("kill", -9, 0)])
def test_training_ends_on_all_ranks_with_the_reason_of_the_first(
    kind: str, code: int, victim: int, image_set: Path, tmp_path: Path
) -> None:
    words = train_words(image_set, tmp_path)
    with start(train_with_failing_rank, words, kind, 5, victim, ranks=3) as started:
        ended = started.wait()
    check_codes(ended, victim, code)
    reason = {"error": REASON, "bug": "ZeroDivisionError: a bug", "kill": ""}[kind]
    prefix = f"[rank {victim}] " if victim else ""
    if kind == "error":
        assert f"{prefix}{reason}" in ended.logs[victim].splitlines()
        assert "Traceback" not in ended.describe()
    if kind == "bug":
        assert f"{prefix}Traceback" in ended.logs[victim]
    assert ended.logs[victim].count(reason) == 1 or kind == "kill"
    for rank in {0, 1, 2} - {victim}:
        assert LOST in ended.logs[rank]
    check_status(tmp_path / "run", "damaged" if (kind, victim) == ("error", 0) else "another rank")


def test_the_reason_is_reported_before_the_record_is_closed(image_set: Path, tmp_path: Path) -> None:
    words = train_words(image_set, tmp_path)
    with start(train_with_failing_rank, words, "error", 5, 0, ranks=2) as started:
        ended = started.wait()
    lines = ended.logs[0].splitlines()
    assert lines.index(REASON) < next(number for number, line in enumerate(lines) if line.startswith("run: failed at"))


def test_tracking_learns_that_the_run_failed(image_set: Path, tmp_path: Path) -> None:
    words = train_words(image_set, tmp_path, "--tracking.mode", "offline")
    with start(train_with_failing_rank, words, "error", 5, 1, ranks=2) as started:
        ended = started.wait()
    check_codes(ended, 1, 2)
    (record,) = wait_until(lambda: list((tmp_path / "run/wandb").rglob("run-*.wandb")))
    assert wait_until(lambda: b"failed" in record.read_bytes())
    assert not list((tmp_path / "run/wandb").glob("events-*.jsonl")), "all events were sent"


@pytest.mark.parametrize(("kind", "victim"), [("error", 1), ("kill", 2), ("kill", 0)])
def test_ranks_that_wait_for_a_gpu_end_too(kind: str, victim: int, image_set: Path, tmp_path: Path) -> None:
    """The others are past their exchange of the step, so that only the connections of their watch can break."""
    words = train_words(image_set, tmp_path)
    with start(train_with_waiting_ranks, words, kind, 5, victim, ranks=3) as started:
        ended = started.wait()
    check_codes(ended, victim, {"error": 2, "kill": -9}[kind])
    reason = {"error": f"rank {victim} ended: shard-000007", "kill": f"rank {victim} ended without a message"}[kind]
    for rank in {0, 1, 2} - {victim}:
        assert "error: another rank has ended: " in ended.logs[rank], ended.describe()
        assert reason in ended.logs[rank]
    check_status(tmp_path / "run", "")  # which rank writes it last is not determined


@pytest.fixture(scope="module")
def models(image_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an untrained model of each stage, code maps and a configuration."""
    out = tmp_path_factory.mktemp("models")
    write_codes(out / "codes", save_vqvae(out / "vqvae"), image_set)
    save_prior(out / "prior", out / "codes")
    (out / "config.yaml").write_text(json.dumps({"data": {"path": str(image_set), "num_workers": 0}}))
    return out


WORDS = {
    "encode": "--run {models}/vqvae --data {data} --out {out} --device cpu",
    "evaluate": "--run {models}/vqvae --data {data} --device cpu",
    "sample": "--prior {models}/prior --num 2 --out {out} --device cpu",
    "score": "--prior {models}/prior --data {data} --out {out} --device cpu",
    "complete": "--prior {models}/prior --data {data} --mask {data} --out {out} --device cpu",
    "doctor": "--config {models}/config.yaml --run.dir {out} --run.device cpu",
}


@pytest.mark.parametrize(("command", "kind"), [*((command, "error") for command in WORDS), ("score", "bug")])
def test_every_command_ends_on_all_ranks(
    command: str, kind: str, models: Path, image_set: Path, tmp_path: Path
) -> None:
    words = WORDS[command].format(models=models, data=image_set, out=tmp_path / "out").split()
    with start(run_with_failing_rank, command, words, kind, ranks=2) as started:
        ended = started.wait()
    check_codes(ended, 1, 2 if kind == "error" else 1)
    assert "[rank 1] " in ended.logs[1]
    assert {"error": REASON.removeprefix("error: "), "bug": "ZeroDivisionError: a bug"}[kind] in ended.logs[1]
    assert LOST in ended.logs[0]
    assert "Traceback" not in ended.logs[0]
