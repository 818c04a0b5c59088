"""Checkpoints are complete or absent: after damage, kills and full disks the previous one can be loaded.

The long version, `pytest -m long tests/runs/test_checkpoint.py`, kills 400 times.
"""

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import digests, read_metrics, start, tiny_flags, train, wait_until
from support.checkpoints import FILES, load_newest, make_tensors, save

from vqdist.foundation import atomic_files
from vqdist.foundation.errors import CheckpointError, OwnershipError
from vqdist.runs.checkpoint import (
    list_checkpoints,
    load_checkpoint,
    read_newest_state,
    remove_partial_checkpoints,
)


def check_newest(folder: Path, step: int) -> None:
    """Check that the newest undamaged checkpoint is that of a step, bit for bit."""
    found = load_newest(folder, rename_damaged=False)
    assert found is not None
    assert found[0].name == f"step-{step:08d}"
    assert found[2] == {"step": step, "loss": 0.1 * step}
    for group, tensors in make_tensors(step).items():
        assert found[1][group].keys() == tensors.keys()
        assert all(torch.equal(found[1][group][name], tensor) for name, tensor in tensors.items())


def test_loaded_values_are_the_saved_ones(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "none", rename_damaged=True) is None
    assert read_newest_state(tmp_path / "none") is None
    save(tmp_path, 7)
    check_newest(tmp_path, 7)
    assert sorted(path.name for path in (tmp_path / "step-00000007").iterdir()) == list(FILES)
    assert read_newest_state(tmp_path) == {"step": 7, "loss": 0.1 * 7}
    with pytest.raises(CheckpointError, match="COMMIT"):
        load_checkpoint(tmp_path / "step-00000008")


def flip(data: bytes, place: float) -> bytes:
    index = int(place * (len(data) - 1))
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    **{f"a bit at {place:.0%} flipped": lambda data, place=place: flip(data, place) for place in (0, 0.3, 0.7, 1)},
    **{f"cut to {part:.0%}": lambda data, part=part: data[: int(part * len(data))] for part in (0, 0.5, 0.99)},
    "a byte more": lambda data: data + b"x",
    "gone": lambda data: None,
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_checkpoints_are_named_renamed_and_skipped(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, (kind, damage) in enumerate(DAMAGES.items()):
        folder = tmp_path / str(number)
        save(folder, 1), save(folder, 2)
        file = folder / "step-00000002" / name
        damaged = damage(file.read_bytes())
        file.unlink() if damaged is None else file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"step-00000002/{name}: found .*; expected"):
            load_checkpoint(folder / "step-00000002")
        capsys.readouterr()
        found = load_newest(folder, rename_damaged=True)
        assert found is not None, kind
        assert found[0].name == "step-00000001"
        assert f"step-00000002/{name}" in capsys.readouterr().err
        assert sorted(path.name for path in folder.iterdir()) == ["damaged-step-00000002-0", "step-00000001"]
        check_newest(folder, 1)


def test_every_flipped_bit_of_a_commit_is_detected(tmp_path: Path) -> None:
    file = save(tmp_path, 1) / "COMMIT.json"
    data = file.read_bytes()
    for bit in range(0, 8 * len(data), 7):  # every bit position, and most bytes
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError, match="COMMIT"):
            load_checkpoint(file.parent)


def test_a_file_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    first, second = save(tmp_path, 1), save(tmp_path, 2)
    os.replace(first / "model.safetensors", second / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"step-00000002/model\.safetensors: found sha256"):
        load_checkpoint(second)


def test_old_checkpoints_are_deleted_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(path: Path) -> None:
        if path.is_dir():
            seen.append(sorted(path.name for path in list_checkpoints(tmp_path)))

    monkeypatch.setattr(atomic_files, "sync", look)
    for step in (5, 10, 15, 100_000_000):
        save(tmp_path, step, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000015", "step-100000000"]
    # Before each rename all earlier ones exist; after it, the new one too.
    assert [len(names) for names in seen] == [0, 1, 1, 2, 2, 3, 2, 3]
    save(tmp_path, 15, keep=3)
    assert len(list_checkpoints(tmp_path)) == 2


def test_a_writer_that_lost_ownership_leaves_nothing(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OwnershipError("another process owns this run")

    save(tmp_path, 1)
    before = digests(tmp_path)
    with pytest.raises(OwnershipError):
        save(tmp_path, 2, check_owner=refuse)
    assert digests(tmp_path) == before


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1), save(tmp_path, 2)
    before = digests(tmp_path)
    real, fsync = Path.write_bytes, os.fsync
    for doomed in range(4):
        count = iter(range(10))

        def write(path: Path, data: bytes, count: Any = count, doomed: int = doomed) -> int:
            if next(count) == doomed:
                real(path, data[: len(data) // 2])
                raise OSError(28, "No space left on device")
            return real(path, data)

        monkeypatch.setattr(Path, "write_bytes", write)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path, 3, keep=2)
        assert digests(tmp_path) == before
    monkeypatch.setattr(Path, "write_bytes", real)
    for doomed in range(5):
        count = iter(range(10))

        def sync(handle: int, count: Any = count, doomed: int = doomed) -> None:
            if next(count) == doomed:
                raise OSError(5, "Input/output error")
            fsync(handle)

        monkeypatch.setattr(os, "fsync", sync)
        with pytest.raises(OSError, match="Input/output"):
            save(tmp_path, 3, keep=2)
        assert digests(tmp_path) == before
    monkeypatch.setattr(os, "fsync", fsync)
    save(tmp_path, 3)
    check_newest(tmp_path, 3)


def limited_train(words: list[str], first: int, last: int) -> int:
    """Train, but limit files to 1,500 bytes from one step to another, as a full disk would."""
    from vqdist.foundation.command import run_command
    from vqdist.train import main
    from vqdist.training import loop

    real = loop.train_step

    def step(session: Any, *rest: Any, **options: Any) -> Any:
        limit = 1500 if first <= session.progress.step < last else resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return real(session, *rest, **options)

    loop.train_step = step
    return run_command(main, words)


def test_a_run_on_a_full_disk_continues_or_stops_as_configured(image_set: Path, tmp_path: Path) -> None:
    flags = [*tiny_flags(), "--data.path", str(image_set), "--run.dir", str(tmp_path), "--tracking.mode", "disabled"]
    flags += ["--data.ledger", "true", "--train.eval_every", "7", "--train.preview_every", "7"]
    with start(limited_train, [*flags, "--run.name", "stops"], 8, 99) as started:
        stopped = started.wait()
    assert stopped.code == 1
    assert "File too large; files written before are complete" in stopped.logs[0]
    assert "Traceback" not in stopped.logs[0]
    assert [path.name for path in list_checkpoints(tmp_path / "stops" / "checkpoints")] == ["step-00000005"]
    load_checkpoint(tmp_path / "stops" / "checkpoints" / "step-00000005")
    train(*flags, "--run.name", "stops")
    with start(
        limited_train, [*flags, "--run.name", "continued", "--checkpoint.on_error", "continue"], 8, 16
    ) as started:
        ended = started.wait()
    assert ended.code == 0, ended.describe()
    assert ended.logs[0].count("not written") == ended.logs[0].count("the run continues") >= 2
    with start(limited_train, [*flags, "--run.name", "ends", "--checkpoint.on_error", "continue"], 16, 99) as started:
        assert started.wait().code == 1, "a run whose last checkpoint could not be written has not finished"
    train(*flags, "--run.name", "ends")
    train(*flags, "--run.name", "undisturbed")
    for name in ("stops", "continued", "ends"):
        assert read_metrics(tmp_path / name) == read_metrics(tmp_path / "undisturbed")
        ledgers = [(tmp_path / run / "ledger" / "rank-0.jsonl").read_bytes() for run in (name, "undisturbed")]
        assert ledgers[0] == ledgers[1]
        models = [digests(tmp_path / run / "model")["model.safetensors"] for run in (name, "undisturbed")]
        assert models[0] == models[1]


def test_checkpoints_by_time(image_set: Path, tmp_path: Path) -> None:
    """Rank 0 decides by its clock, and all ranks sync their ledgers before the checkpoint."""
    flags = [*tiny_flags(), "--data.path", image_set, "--run.dir", tmp_path, "--data.ledger", "true"]
    train(*flags, "--run.name", "steps", "--checkpoint.every_minutes", "null", "--checkpoint.keep", 9, ranks=2)
    train(*flags, "--run.name", "time", "--checkpoint.every_minutes", 1e-6, "--checkpoint.keep", 99, ranks=2)
    by_steps, by_time = (list_checkpoints(tmp_path / name / "checkpoints") for name in ("steps", "time"))
    assert [path.name for path in by_steps] == [f"step-{step:08d}" for step in (5, 10, 15, 20)]
    assert len(by_time) > 15
    assert digests(by_time[-1]) == digests(by_steps[-1])


SLOW_SYNC_S = 0.004  # so that kills hit a checkpoint that is being written


def write_forever(folder: str, log: str) -> int:
    """Write checkpoints one after another to a slow disk, and the completed steps to a log."""
    sync = os.fsync
    os.fsync = lambda handle: (sync(handle), time.sleep(SLOW_SYNC_S))[0]
    remove_partial_checkpoints(Path(folder))
    found = load_newest(Path(folder), rename_damaged=False)
    step = found[2]["step"] if found else 0
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        step += 1
        save(Path(folder), step, tensors=make_tensors(step))
        os.write(handle, b"%d\n" % step)


def kill_while_it_writes(folder: Path, times: int) -> None:
    """Kill a writer repeatedly; no completed checkpoint may be lost or damaged."""
    rng = random.Random(0)
    log, torn = folder.with_suffix(".log"), 0
    for _ in range(times):
        before = len(log.read_bytes()) if log.exists() else 0
        with start(write_forever, str(folder), str(log)) as started:
            wait_until(lambda before=before: log.exists() and len(log.read_bytes()) > before)
            if rng.random() < 0.9:  # during a write; otherwise at any time
                end = time.monotonic() + 60
                while not list(folder.glob(".*.tmp-*")):
                    assert time.monotonic() < end
                time.sleep(rng.uniform(0, 4 * SLOW_SYNC_S))
            else:
                time.sleep(rng.uniform(0, 0.05))
            started.send(signal.SIGKILL)
            assert started.wait().code == -signal.SIGKILL
        done = int(log.read_text().split()[-1])
        torn += bool(list(folder.glob(".*.tmp-*")))
        found = load_newest(folder, rename_damaged=False)
        assert found is not None
        assert found[2]["step"] in {done, done + 1}
        check_newest(folder, found[2]["step"])
    assert torn > times // 2, f"only {torn} of {times} kills hit a write"


def test_kills_lose_no_checkpoint(tmp_path: Path) -> None:
    kill_while_it_writes(tmp_path / "checkpoints", 40)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_400_kills_lose_no_checkpoint(tmp_path: Path) -> None:
    kill_while_it_writes(tmp_path / "checkpoints", 400)


def test_a_kill_between_two_renames_is_repaired(tmp_path: Path) -> None:
    final = save(tmp_path, 2)
    save(tmp_path, 1)
    final.rename(tmp_path / "step-00000002.old")
    (tmp_path / "step-00000003.0a1b2c3d.tmp").mkdir()
    remove_partial_checkpoints(tmp_path)
    check_newest(tmp_path, 2)
    (tmp_path / "step-00000002.old").mkdir()
    remove_partial_checkpoints(tmp_path)
    (tmp_path / "step-00000002").rename(tmp_path / ".step-00000002.old")
    (tmp_path / ".step-00000003.tmp-0a1b2c3d").mkdir()
    remove_partial_checkpoints(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]
