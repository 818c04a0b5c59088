"""Checkpoints that are there or are not: safetensors and JSON, verified by COMMIT.json, renamed into place.

A checkpoint is written into `step-N.tmp`, every file and the folder are synced, COMMIT.json with size and
sha256 of each file comes last, and a rename makes it a checkpoint. A reader believes COMMIT.json and
nothing else. Written by rank 0, in the loop, without threads.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from vqdist.entry import say
from vqdist.errors import CheckpointError
from vqdist.training.run_dir import sync_folder

Tensors = dict[str, torch.Tensor]
MOST_COMMIT_BYTES = 1 << 20


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    tensors: dict[str, Tensors],
    state: dict[str, Any],
    keep: int,
    check_owner: Callable[[], None],
) -> Path:
    """Write the checkpoint of a step, then drop the oldest ones.

    Args:
        folder: the run's `checkpoints`.
        step: optimizer updates so far.
        tensors: file stem -> its tensors.
        state: what JSON can hold.
        keep: checkpoints left afterwards, at least 2.
        check_owner: called before the rename; raises if a newer start owns the run.
    Returns:
        The checkpoint's folder.
    Raises:
        OSError: it could not be written; what was there before is untouched.
    """
    final = folder / f"step-{step:08d}"
    partial = folder / f"step-{step:08d}.tmp"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.tmp"):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        partial.mkdir()
        payloads = {f"{stem}.safetensors": save_tensors(_plain(group)) for stem, group in tensors.items()}
        payloads["state.json"] = json.dumps(state).encode()
        for name, payload in payloads.items():
            _write(partial / name, payload)
        files = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in payloads.items()}
        _write(partial / "COMMIT.json", json.dumps({"format_version": 1, "step": step, "files": files}).encode())
        sync_folder(partial)
        check_owner()
        if final.exists():  # a rerun of this step: the bytes are the same, the old ones may be damaged
            shutil.rmtree(final)
        partial.rename(final)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[: -max(keep, 2)]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first. They are not verified."""
    found = (path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdigit())
    return sorted(found, key=lambda path: int(path.name[5:]))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read a checkpoint, believing only bytes that COMMIT.json vouches for.

    Returns:
        The tensors of each file (on the CPU) and the state.
    Raises:
        CheckpointError: damaged or incomplete; names the file, what was found and expected.
    """
    commit = _read_commit(path)
    payloads = {name: _read_verified(path / name, fact) for name, fact in commit["files"].items()}
    if "state.json" not in payloads:
        raise CheckpointError.of(str(path / "COMMIT.json"), "no state.json", "the files of a checkpoint")
    try:
        state = json.loads(payloads.pop("state.json"))
        tensors = {name.removesuffix(".safetensors"): load_tensors(data) for name, data in payloads.items()}
    except (ValueError, SafetensorError) as error:
        raise CheckpointError.of(str(path), error, "JSON and safetensors") from error
    return tensors, state


def load_newest(folder: Path, *, set_aside: bool) -> tuple[Path, dict[str, Tensors], dict[str, Any]] | None:
    """Read the newest checkpoint that verifies; a damaged one is named, set aside and passed over."""
    for path in reversed(list_checkpoints(folder)):
        try:
            return (path, *load_checkpoint(path))
        except CheckpointError as error:
            say(f"checkpoint passed over: {error}")
            if set_aside:
                _set_aside(path)
    return None


def _set_aside(path: Path) -> None:
    for number in range(1000):
        target = path.with_name(f"damaged-{path.name}-{number}")
        if not target.exists():
            path.rename(target)
            return


def _plain(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_commit(path: Path) -> dict[str, Any]:
    file = path / "COMMIT.json"
    try:
        with file.open("rb") as handle:
            commit = json.loads(handle.read(MOST_COMMIT_BYTES))
        files = commit["files"]
        for name, fact in files.items():
            if Path(name).name != name or not isinstance(fact["bytes"], int) or not isinstance(fact["sha256"], str):
                raise ValueError(f"entry {name!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError.of(
            str(file), f"{type(error).__name__}: {error}", "name, bytes and sha256 of each file"
        ) from error
    return commit


def _read_verified(path: Path, fact: dict[str, Any]) -> bytes:
    try:
        size = path.stat().st_size
        if size != fact["bytes"]:
            raise CheckpointError.of(str(path), f"{size} bytes", f"{fact['bytes']} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError.of(str(path), error.strerror, f"{fact['bytes']} bytes") from error
    if (found := _sha256(data)) != fact["sha256"]:
        raise CheckpointError.of(str(path), f"sha256 {found}", f"sha256 {fact['sha256']}")
    return data
