"""Atomic checkpoints of safetensors and JSON files, verified by the checksums in COMMIT.json.

A checkpoint is written to a temporary folder. Its files are synced first, then COMMIT.json, which has the size and
SHA-256 of each; the folder is then synced and renamed to its final name. Loading reads only files that match
COMMIT.json. Rank 0 writes checkpoints synchronously in the training loop.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from vqdist.foundation.atomic_files import clear_leftovers, write_folder
from vqdist.foundation.errors import CheckpointError
from vqdist.foundation.progress import print_from_any_rank
from vqdist.foundation.shown_values import show_type

Tensors = dict[str, torch.Tensor]
FileDigests = dict[str, dict[str, Any]]
FORMAT_VERSION = 1
MAX_COMMIT_BYTES = 1 << 20


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    tensors: dict[str, Tensors],
    state: dict[str, Any],
    keep: int,
    check_owner: Callable[[], None],
) -> Path:
    """Save the checkpoint of a step, then delete the oldest ones.

    Args:
        folder: the folder of the run's checkpoints.
        step: number of optimizer updates so far.
        tensors: file name without suffix -> named tensors.
        state: JSON-serializable values.
        keep: number of checkpoints to keep; at least 2 are kept.
        check_owner: called before the rename; raises if a newer process owns the run.
    Returns:
        The folder of the checkpoint.
    Raises:
        OSError: the checkpoint could not be written. Earlier checkpoints are unchanged.
    """
    final = folder / f"step-{step:08d}"
    payloads = {f"{stem}.safetensors": save_tensors(_to_cpu(group)) for stem, group in tensors.items()}
    payloads["state.json"] = f"{json.dumps(state)}\n".encode()
    files = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in payloads.items()}
    payloads["COMMIT.json"] = encode_commit(step, files)
    write_folder(final, payloads, check=check_owner)
    for old in list_checkpoints(folder)[: -max(keep, 2)]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def remove_partial_checkpoints(folder: Path) -> None:
    """Delete or restore what a killed process left behind. Call it only as the newest owner of the run."""
    clear_leftovers(folder, "step-*")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the folders of the checkpoints, oldest first, without verifying them."""
    found = (path for path in folder.glob("step-*") if path.is_dir() and path.name[5:].isdecimal())
    return sorted(found, key=lambda path: int(path.name[5:]))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Load a checkpoint and verify its checksums.

    Returns:
        The tensors of each file, on the CPU, and the state.
    Raises:
        CheckpointError: the checkpoint is damaged or incomplete. The error names the file.
    """
    return parse_checkpoint(_read_files(path), path)


def read_newest_checkpoint(folder: Path, *, rename_damaged: bool) -> tuple[Path, dict[str, bytes]] | None:
    """Return the folder of the newest undamaged checkpoint and the contents of its files, None if there is none.

    Args:
        rename_damaged: rename damaged checkpoints to `damaged-step-...`, so that they are not tried again.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            files = _read_files(path)
            parse_checkpoint(files, path)
        except CheckpointError as error:
            print_from_any_rank(f"skipped damaged checkpoint: {error}")
            if rename_damaged:
                _rename_damaged(path)
        else:
            return path, files
    return None


def parse_checkpoint(files: dict[str, bytes], path: Path) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Decode the verified files of a checkpoint.

    Args:
        files: file name -> contents.
        path: the folder of the checkpoint, for error messages.
    Returns:
        The tensors of each file, on the CPU, and the state.
    Raises:
        CheckpointError: a file is not valid JSON or safetensors.
    """
    state = _parse_state(path, files["state.json"])
    groups = {name.removesuffix(".safetensors"): data for name, data in files.items() if name != "state.json"}
    try:
        return {name: load_tensors(data) for name, data in groups.items()}, state
    except SafetensorError as error:
        raise CheckpointError.of(str(path), error, "safetensors") from error


def _read_files(path: Path) -> dict[str, bytes]:
    return {name: _read_verified(path / name, digest) for name, digest in _read_commit(path).items()}


def read_newest_state(folder: Path) -> dict[str, Any] | None:
    """Return the state of the newest checkpoint with an undamaged state, without reading tensors."""
    for path in reversed(list_checkpoints(folder)):
        try:
            return _parse_state(path, _read_verified(path / "state.json", _read_commit(path)["state.json"]))
        except CheckpointError:
            continue
    return None


def _rename_damaged(path: Path) -> None:
    for number in range(1000):
        target = path.with_name(f"damaged-{path.name}-{number}")
        if not target.exists():
            path.rename(target)
            return


def _to_cpu(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def encode_commit(step: int, files: FileDigests) -> bytes:
    """Return the contents of COMMIT.json: size and SHA-256 of each file, and last the SHA-256 of the text before it."""
    text = json.dumps({"format_version": FORMAT_VERSION, "step": step, "files": files})
    return f'{text[:-1]}, "sha256": "{_sha256(text.encode())}"}}\n'.encode()


def _read_commit(path: Path) -> FileDigests:
    file = path / "COMMIT.json"
    try:
        data = _read_regular_file(file, MAX_COMMIT_BYTES)
        commit = json.loads(data)
        files: FileDigests = commit["files"]
        for name, digest in files.items():
            if Path(name).name != name or type(digest["bytes"]) is not int or not isinstance(digest["sha256"], str):
                raise ValueError(f"entry {name!r}")
        if "state.json" not in files:
            raise ValueError("no state.json")
        if data != encode_commit(commit["step"], files):
            raise ValueError("its own sha256 does not match")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError.of(
            str(file), f"{type(error).__name__}: {error}", "name, size and sha256 of each file"
        ) from error
    return files


def _read_verified(path: Path, digest: dict[str, Any]) -> bytes:
    try:
        data = _read_regular_file(path, digest["bytes"])
    except (OSError, ValueError) as error:  # ValueError: the name contains a null byte
        raise CheckpointError.of(str(path), error, f"{digest['bytes']} bytes") from error
    if len(data) != digest["bytes"]:
        raise CheckpointError.of(str(path), f"{path.stat().st_size} bytes", f"{digest['bytes']} bytes")
    if (found := _sha256(data)) != digest["sha256"]:
        raise CheckpointError.of(str(path), f"sha256 {found}", f"sha256 {digest['sha256']}")
    return data


def _read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Read a file, up to one byte more than allowed. Pipes and devices are refused, as reading them may never end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a regular file")
        return file.read(min(found.st_size, max(max_bytes, 0)) + 1)


def _parse_state(path: Path, data: bytes) -> dict[str, Any]:
    try:
        state = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError.of(str(path / "state.json"), error, "JSON") from error
    if not isinstance(state, dict):
        raise CheckpointError.of(str(path / "state.json"), show_type(state), "an object")
    return state
