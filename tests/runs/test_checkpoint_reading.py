"""A checkpoint that other programs made, or that was damaged on purpose, is refused or read right. Nothing of it runs.

The long version, `pytest -m long tests/runs/test_checkpoint_reading.py`, tries 100,000 inputs.
"""

import json
import os
import pickle
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.checkpoints import FILES, Canary, make_tensors, save

from vqdist.foundation.errors import CheckpointError
from vqdist.runs.checkpoint import encode_commit, load_checkpoint


def vouch(folder: Path) -> None:
    """Make COMMIT.json say what the files hold now, as somebody would who wants them to be read."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
        for path in folder.iterdir()
        if path.name != "COMMIT.json"
    }
    (folder / "COMMIT.json").write_bytes(encode_commit(1, files))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    folder, canary = save(tmp_path / "run", 1), tmp_path / "canary"
    good = {name: (folder / name).read_bytes() for name in FILES}
    assert pickle.loads(pickle.dumps(Canary(canary))) == 0
    canary.unlink()
    for name in FILES:
        (folder / name).write_bytes(pickle.dumps(Canary(canary)))
        if name != "COMMIT.json":
            vouch(folder)
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)
        (folder / name).write_bytes(good[name])
    torch.save({"weight": Canary(canary)}, folder / "model.safetensors")
    vouch(folder)
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)
    assert not canary.exists()


def test_what_would_hang_or_fill_the_memory_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    commit = json.loads((folder / "COMMIT.json").read_text())
    empty = {"bytes": 0, "sha256": sha256(b"").hexdigest()}
    (folder / "pipe").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe")
    os.symlink("/dev/zero", folder / "zeros")
    for name in ("pipe", "zeros", "../step-00000001/state.json", "/etc/passwd", "..", ".", "", "a\0b", "x" * 5000):
        (folder / "COMMIT.json").write_bytes(encode_commit(1, {**commit["files"], name: empty}))
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)
    for size in (-1, 2**62, 1.5, True, "9", None):
        told = {**commit["files"], "state.json": {"bytes": size, "sha256": "0" * 64}}
        (folder / "COMMIT.json").write_bytes(encode_commit(1, told))
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)
    for text in ("[" * 10**6, '{"files": ' + "[" * 10**5, "{}" + " " * 2**21, '{"files": []}', '{"files": {}}'):
        (folder / "COMMIT.json").write_text(text)
        with pytest.raises(CheckpointError):
            load_checkpoint(folder)
    (folder / "pipe").unlink(), (folder / "zeros").unlink()
    for text in ("[" * 10**6, "[]", "null", "1e999", '{"a": ' * 10**5, ""):
        (folder / "state.json").write_text(text)
        vouch(folder)
        with pytest.raises(CheckpointError, match=r"state\.json"):
            load_checkpoint(folder)
    (folder / "COMMIT.json").unlink()
    os.mkfifo(folder / "COMMIT.json")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(folder)


TOKENS = (b"null", b"-1", b"1e999", b"99999999999999999999", b'""', b"[]", b"{}", b"true", b"NaN", b"../", b"\\u0000")
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 64), st.one_of(st.binary(max_size=16), st.sampled_from(TOKENS))),
    min_size=1,
    max_size=4,
)


def fuzz_checkpoints(examples: int, folder: Path) -> None:
    """Load checkpoints with edited bytes: refused, or what was saved, whether somebody vouches for them or not."""
    path = save(folder, 1, tensors=make_tensors(1, size=4))
    good = {name: (path / name).read_bytes() for name in FILES}
    wanted, refusals = make_tensors(1, size=4), set()

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(FILES), EDITS, st.booleans())
    def attempt(name: str, edits: list[tuple[float, int, bytes]], vouched: bool) -> None:
        data = good[name]
        for place, length, text in edits:
            start = int(place * len(data))
            data = data[:start] + text + data[start + length :]
        (path / name).write_bytes(data)
        if vouched and name != "COMMIT.json":
            vouch(path)
        try:
            tensors, state = load_checkpoint(path)
            if data != good[name]:
                assert vouched
                assert name != "COMMIT.json"
            if data == good[name]:
                assert state == {"step": 1, "loss": 0.1}
                assert all(
                    torch.equal(tensors[group][key], tensor)
                    for group, members in wanted.items()
                    for key, tensor in members.items()
                )
        except CheckpointError as error:
            refusals.add(str(path) in str(error))
        finally:
            (path / name).write_bytes(good[name])
            (path / "COMMIT.json").write_bytes(good["COMMIT.json"])

    attempt()
    assert refusals == {True}


def test_edited_checkpoints_are_refused_or_right(tmp_path: Path) -> None:
    fuzz_checkpoints(400, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_100_000_edited_checkpoints_are_refused_or_right(tmp_path: Path) -> None:
    fuzz_checkpoints(100_000, tmp_path)
