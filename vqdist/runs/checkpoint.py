"""Checkpoints that are there or are not: safetensors and JSON, verified by COMMIT.json, renamed into place.

A checkpoint is written into a temporary folder, every file and the folder are synced, COMMIT.json with size and
sha256 of each file comes last, and a rename makes it a checkpoint. A reader believes COMMIT.json and
nothing else. Written by rank 0, in the loop, without threads.
"""

import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from vqdist.foundation.atomic_files import sync, write_synced
from vqdist.foundation.progress import print_from_any_rank
from vqdist.foundation.errors import CheckpointError

Tensors = dict[str, torch.Tensor]
FileDigests = dict[str, dict[str, Any]]
FORMAT_VERSION = 1
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
    partial = folder / f"step-{step:08d}.{uuid.uuid4().hex[:8]}.tmp"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        partial.mkdir()
        payloads = {f"{stem}.safetensors": save_tensors(_plain(group)) for stem, group in tensors.items()}
        payloads["state.json"] = json.dumps(state).encode()
        for name, payload in payloads.items():
            write_synced(partial / name, payload)
        files = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in payloads.items()}
        write_synced(partial / "COMMIT.json", encode_commit(step, files))
        sync(partial)
        check_owner()
        if final.exists():
            final.rename(final.with_suffix(".old"))
        partial.rename(final)
        sync(folder)
        shutil.rmtree(final.with_suffix(".old"), ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[: -max(keep, 2)]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def sweep(folder: Path) -> None:
    """Clear up after a writer that was killed; at a start, by the newest owner of the run."""
    for partial in folder.glob("step-*.tmp"):
        shutil.rmtree(partial, ignore_errors=True)
    for old in folder.glob("step-*.old"):
        if old.with_suffix("").exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(old.with_suffix(""))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first. They are not verified."""
    found = (path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdecimal())
    return sorted(found, key=lambda path: int(path.name[5:]))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Read a checkpoint, believing only bytes that COMMIT.json vouches for.

    Returns:
        The tensors of each file (on the CPU) and the state.
    Raises:
        CheckpointError: damaged or incomplete; names the file, what was found and expected.
    """
    return parse_checkpoint(_read_files(path), path)


def load_newest(folder: Path, *, set_aside: bool) -> tuple[Path, dict[str, Tensors], dict[str, Any]] | None:
    """Read the newest checkpoint that verifies; a damaged one is named, set aside and passed over."""
    found = read_newest(folder, set_aside=set_aside)
    return None if found is None else (found[0], *parse_checkpoint(found[1], found[0]))


def read_newest(folder: Path, *, set_aside: bool) -> tuple[Path, dict[str, bytes]] | None:
    """Return the newest checkpoint that verifies and the bytes of its files, as load_newest does."""
    for path in reversed(list_checkpoints(folder)):
        try:
            files = _read_files(path)
            parse_checkpoint(files, path)
        except CheckpointError as error:
            print_from_any_rank(f"checkpoint passed over: {error}")
            if set_aside:
                _set_aside(path)
        else:
            return path, files
    return None


def parse_checkpoint(files: dict[str, bytes], path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Return tensors and state of a checkpoint's verified files.

    Raises:
        CheckpointError: no JSON or no safetensors, though somebody vouched for them.
    """
    state = _parse_state(path, files["state.json"])
    groups = {name.removesuffix(".safetensors"): data for name, data in files.items() if name != "state.json"}
    try:
        return {name: load_tensors(data) for name, data in groups.items()}, state
    except SafetensorError as error:
        raise CheckpointError.of(str(path), error, "safetensors") from error


def _read_files(path: Path) -> dict[str, bytes]:
    return {name: _read_verified(path / name, fact) for name, fact in _read_commit(path).items()}


def read_newest_state(folder: Path) -> dict[str, Any] | None:
    """Return the state of the newest checkpoint whose state verifies, without reading its tensors."""
    for path in reversed(list_checkpoints(folder)):
        try:
            return _parse_state(path, _read_verified(path / "state.json", _read_commit(path)["state.json"]))
        except CheckpointError:
            continue
    return None


def _set_aside(path: Path) -> None:
    for number in range(1000):
        target = path.with_name(f"damaged-{path.name}-{number}")
        if not target.exists():
            path.rename(target)
            return


def _plain(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encode_commit(step: int, files: FileDigests) -> bytes:
    """Return the bytes of COMMIT.json: bytes and sha256 of each file, and at its end the sha256 of the rest of it."""
    told = json.dumps({"format_version": FORMAT_VERSION, "step": step, "files": files})
    return f'{told[:-1]}, "sha256": "{_sha256(told.encode())}"}}\n'.encode()


def _read_commit(path: Path) -> FileDigests:
    """Return size and sha256 of each file of a checkpoint."""
    file = path / "COMMIT.json"
    try:
        data = _read_plain(file, MOST_COMMIT_BYTES)
        commit = json.loads(data)
        files: FileDigests = commit["files"]
        for name, fact in files.items():
            if Path(name).name != name or type(fact["bytes"]) is not int or not isinstance(fact["sha256"], str):
                raise ValueError(f"entry {name!r}")
        if "state.json" not in files:
            raise ValueError("no state.json")
        if data != encode_commit(commit["step"], files):
            raise ValueError("its own sha256 is another")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError.of(
            str(file), f"{type(error).__name__}: {error}", "name, bytes and sha256 of each file"
        ) from error
    return files


def _read_verified(path: Path, fact: dict[str, Any]) -> bytes:
    try:
        data = _read_plain(path, fact["bytes"])
    except (OSError, ValueError) as error:  # a name may hold what no file system takes
        raise CheckpointError.of(str(path), error, f"{fact['bytes']} bytes") from error
    if len(data) != fact["bytes"]:
        raise CheckpointError.of(str(path), f"{path.stat().st_size} bytes", f"{fact['bytes']} bytes")
    if (found := _sha256(data)) != fact["sha256"]:
        raise CheckpointError.of(str(path), f"sha256 {found}", f"sha256 {fact['sha256']}")
    return data


def _read_plain(path: Path, most_bytes: int) -> bytes:
    """Read a file whole, and one byte more than the most it may hold; a pipe or a device is refused unread."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "no plain file")
        return file.read(min(found.st_size, max(most_bytes, 0)) + 1)


def _parse_state(path: Path, data: bytes) -> dict[str, Any]:
    try:
        state = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError.of(str(path / "state.json"), error, "JSON") from error
    if not isinstance(state, dict):
        raise CheckpointError.of(str(path / "state.json"), type(state).__name__, "an object")
    return state
