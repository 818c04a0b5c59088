"""A model as files: config.json tells how to build it, model.safetensors holds its weights.

    model/config.json          format_version, kind, model (the constructor's arguments), step, metrics,
                               weights (bytes and sha256 of the other file)
    model/model.safetensors
    model/vqvae/               beside a PixelCNN: the VQ-VAE that its codes came from

A folder is written under another name and renamed into place. The one before it is moved aside, not overwritten,
and a reader holds the folder open while it reads, so it sees the old model or the new one.
"""

import glob
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from vqdist.foundation.atomic_files import aside_path, clear_leftovers, write_folder
from vqdist.foundation.errors import CheckpointError, Problem, UserError
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

FORMAT_VERSION = 1
KINDS: dict[str, type[VQVAE] | type[PixelCNN]] = {"vqvae": VQVAE, "pixelcnn": PixelCNN}
MOST_CONFIG_BYTES = 16 * 2**20
_READ_ATTEMPTS = 20


class ModelFiles(NamedTuple):
    """The bytes of a saved model, read together and checked against each other."""

    folder: Path
    config: dict[str, Any]
    weights: bytes


def save_model(
    model: VQVAE | PixelCNN,
    folder: str | Path,
    *,
    step: int | None = None,
    metrics: Mapping[str, float] | None = None,
    extra: Mapping[str, Any] | None = None,
    vqvae_dir: str | Path | None = None,
    check_owner: Callable[[], None] | None = None,
) -> None:
    """Write a model, replacing the one that may lie there.

    Args:
        folder: the model's folder, `RUN/model`.
        step: the step of its weights.
        metrics: what it reached there.
        extra: more entries for config.json.
        vqvae_dir: for a PixelCNN, where the VQ-VAE of its codes lies; any path that load_model takes.
        check_owner: called before the rename; raises if the model must not be replaced any more.
    Raises:
        CheckpointError: no sound VQ-VAE at vqvae_dir.
        OSError: it could not be written; what was there is untouched.
    """
    weights = save_tensors({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()})
    config = {
        "format_version": FORMAT_VERSION,
        "kind": _kind_of(model),
        "model": model.config,
        "step": step,
        "metrics": dict(metrics or {}),
        "weights": {"bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()},
        **(extra or {}),
    }
    files = {"config.json": json.dumps(config, indent=2).encode(), "model.safetensors": weights}
    if vqvae_dir is not None:
        vqvae = read_model_files(vqvae_dir, kind="vqvae")
        files["vqvae/config.json"] = json.dumps(vqvae.config, indent=2).encode()
        files["vqvae/model.safetensors"] = vqvae.weights
    clear_leftovers(Path(folder).parent, glob.escape(Path(folder).name))
    write_folder(Path(folder), files, check=check_owner)


def load_model(path: str | Path) -> VQVAE | PixelCNN:
    """Build a saved model on the CPU, in eval mode.

    Args:
        path: a run's directory, its `model/`, or a data set of codes (then the VQ-VAE that made it).
    Raises:
        CheckpointError: no model there, damaged, or its weights do not fit its config.json.
    """
    return build_model(read_model_files(path))


def load_vqvae_of(path: str | Path) -> VQVAE:
    """Load the VQ-VAE that the codes of a PixelCNN came from; path as for load_model."""
    vqvae = build_model(read_model_files(find_model(path) / "vqvae", kind="vqvae"))
    assert isinstance(vqvae, VQVAE)
    return vqvae


def read_config(path: str | Path) -> dict[str, Any]:
    """Return the config.json of a saved model, after the checks of load_model on its files."""
    return read_model_files(path).config


def fingerprint(path: str | Path) -> str:
    """Return the sha256 (hex) over weights and architecture: equal for models that compute the same."""
    return fingerprint_of(read_model_files(path))


def fingerprint_of(files: ModelFiles) -> str:
    """Return the fingerprint of a saved model that was read before, whatever lies in its place now."""
    config = files.config
    told = json.dumps([config["kind"], config["model"], config["weights"]["sha256"]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def find_model(path: str | Path) -> Path:
    """Return the folder of the model that a path stands for.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    for folder in (path, path / "model", path / "vqvae") * 2:  # twice: it may be replaced between two looks
        if (folder / "config.json").is_file() or (aside_path(folder) / "config.json").is_file():
            return folder
    expected = "a run's directory, its model/, or a data set of codes"
    raise CheckpointError.of(str(path), "no model" if path.exists() else "nothing", expected)


def read_model_files(path: str | Path, *, kind: str | None = None) -> ModelFiles:
    """Read a saved model's files and check them against each other.

    Args:
        path: as for load_model.
        kind: "vqvae" or "pixelcnn" where it must be one.
    Raises:
        CheckpointError: no model there, of another kind, or damaged.
    """
    folder = find_model(path)
    told, weights = _read_together(folder)
    config = _parse_config(told, folder / "config.json")
    if kind is not None and config["kind"] != kind:
        raise CheckpointError.of(f"{folder / 'config.json'}: kind", config["kind"], kind)
    expected = config["weights"]
    if len(weights) != expected["bytes"]:
        where = str(folder / "model.safetensors")
        raise CheckpointError.of(where, f"{len(weights)} bytes", f"{expected['bytes']} bytes")
    if (found := hashlib.sha256(weights).hexdigest()) != expected["sha256"]:
        where = str(folder / "model.safetensors")
        raise CheckpointError.of(where, f"sha256 {found}", f"sha256 {expected['sha256']}: it is damaged")
    return ModelFiles(folder, config, weights)


def build_model(files: ModelFiles) -> VQVAE | PixelCNN:
    """Build the model that read_model_files found, in eval mode.

    Raises:
        CheckpointError: weights and config.json do not fit; names each tensor, what was found and expected.
    """
    try:
        weights = load_tensors(files.weights)
    except SafetensorError as error:
        raise CheckpointError.of(str(files.folder / "model.safetensors"), error, "safetensors") from error
    # Without memory at first, so that a config.json that claims a giant is refused before it is built.
    with torch.device("meta"):
        shapes = _construct(files).state_dict()
    if problems := _mismatches(files.folder, weights, shapes):
        raise CheckpointError(problems)
    model = _construct(files)
    model.load_state_dict(weights)
    return model.eval()


def _construct(files: ModelFiles) -> VQVAE | PixelCNN:
    try:
        return KINDS[files.config["kind"]](**files.config["model"])
    except (TypeError, ValueError, RuntimeError, UserError) as error:
        where = f"{files.folder / 'config.json'}: model"
        raise CheckpointError.of(where, error, f"arguments of a {files.config['kind']}") from error


def _mismatches(folder: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[Problem]:
    def describe(tensor: Tensor | None) -> str:
        return "nothing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "")

    names = sorted(set(found) | set(expected))
    told = [(name, describe(found.get(name)), describe(expected.get(name))) for name in names]
    file = folder / "model.safetensors"
    return [Problem(f"{file}: {name}", is_, should_be) for name, is_, should_be in told if is_ != should_be]


def _parse_config(data: bytes, file: Path) -> dict[str, Any]:
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError.of(str(file), error, "JSON") from error
    if not isinstance(config, dict):
        raise CheckpointError.of(str(file), type(config).__name__, "an object")
    weights = config.get("weights")
    allowed: list[tuple[str, list[Any]]] = [("format_version", [FORMAT_VERSION]), ("kind", list(KINDS))]
    problems = [
        Problem(f"{file}: {key}", repr(config.get(key))[:80], " or ".join(map(str, values)))
        for key, values in allowed
        if config.get(key) not in values
    ]
    if not isinstance(config.get("model"), dict):
        problems.append(Problem(f"{file}: model", repr(config.get("model"))[:80], "an object"))
    if not isinstance(weights, dict) or not {"bytes", "sha256"} <= weights.keys():
        problems.append(Problem(f"{file}: weights", repr(weights)[:80], "an object with bytes and sha256"))
    if problems:
        raise CheckpointError(problems)
    return config


def _read_together(folder: Path) -> tuple[bytes, bytes]:
    """Read both files out of one folder, though a writer may replace it at any moment."""
    for attempt in range(_READ_ATTEMPTS):
        last = attempt == _READ_ATTEMPTS - 1
        for place in (folder, aside_path(folder)):
            try:
                return _read_in(place)
            except FileNotFoundError as error:
                if last and place.exists():
                    raise CheckpointError.of(str(folder), f"no {error.filename}", "a whole model") from error
            except OSError as error:
                raise CheckpointError.of(str(folder), error, "readable files") from error
        time.sleep(0.01)
    raise CheckpointError.of(str(folder), "no whole model", "config.json and model.safetensors")


def _read_in(folder: Path) -> tuple[bytes, bytes]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:

        def opener(name: str, flags: int) -> int:
            return os.open(name, flags, dir_fd=descriptor)

        with open("config.json", "rb", opener=opener) as file:
            config = file.read(MOST_CONFIG_BYTES)
        with open("model.safetensors", "rb", opener=opener) as file:
            return config, file.read()
    finally:
        os.close(descriptor)


def _kind_of(model: nn.Module) -> str:
    return next(kind for kind, family in KINDS.items() if isinstance(model, family))
