"""Save and load models: a folder with config.json (the model card) and model.safetensors (the weights).

    model/config.json          kind, constructor arguments, step, metrics, facts of the dataset; see model_card.py
    model/model.safetensors
    model/vqvae/               beside a PixelCNN: the VQ-VAE that made its codes

A folder is written under a temporary name and renamed into place. The previous folder is moved aside, not overwritten,
and a reader keeps the folder open while it reads, so that it sees either the old or the new model.
"""

import glob
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from vqdist.foundation.atomic_files import aside_path, clear_leftovers, write_folder
from vqdist.foundation.dataset_folder import is_dataset
from vqdist.foundation.errors import CheckpointError, Problem, UserError, limit_problems
from vqdist.foundation.model_names import HUB_FORM, STARTER, VQVAE_FOLDER, show_model_name
from vqdist.foundation.run_status import read_status
from vqdist.models.hub import locate_model
from vqdist.models.model_card import DataDescription, ModelCard
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

MODELS: dict[str, type[VQVAE] | type[PixelCNN]] = {"vqvae": VQVAE, "pixelcnn": PixelCNN}
_TITLES = {"vqvae": "VQ-VAE", "pixelcnn": "PixelCNN"}
MAX_CARD_BYTES = 16 * 2**20
READ_ATTEMPTS = 20
# State of a run without a model -> what happened, and what to do.
_NO_MODEL_YET = {
    "running": ("is", "wait for the first evaluation, or, if it was killed, run the same train command again"),
    "stopped": ("stopped", "run the same train command again to continue it"),
    "failed": ("failed", "fix the cause, then run the same train command again"),
}
_WRAPPERS = ("OptimizedModule", "DistributedDataParallel", "DataParallel")
_T = TypeVar("_T")


class SavableModel(Protocol):
    """What save_model needs of a module."""

    config: dict[str, Any]

    def state_dict(self) -> Mapping[str, Any]: ...


class ModelFiles(NamedTuple):
    """A saved model in memory, read consistently and verified.

    Attributes:
        folder: where it was read.
        card: the content of config.json.
        card_text: config.json as it was read, for exact copies.
        weights: the content of model.safetensors.
    """

    folder: Path
    card: ModelCard
    card_text: bytes
    weights: bytes

    @property
    def config(self) -> dict[str, Any]:
        """The content of config.json as JSON values."""
        values: dict[str, Any] = json.loads(self.card_text)
        return values

    @property
    def grid(self) -> tuple[int, int]:
        """Size (h, w) of the code maps that the model was trained on; CheckpointError if the card has none."""
        return self._require("grid", self.card.data.grid)

    @property
    def image_size(self) -> tuple[int, int]:
        """Size (H, W) of the images that the model was trained on; CheckpointError if the card has none."""
        return self._require("image_size", self.card.data.image_size)

    @property
    def conditions(self) -> tuple[tuple[int | None, int | None, int], ...]:
        """(label, slice, number of train samples) for each pair; CheckpointError if the card has none."""
        return self._require("conditions", self.card.data.conditions)

    @property
    def contents(self) -> dict[str, bytes]:
        """The bytes of each file, for an exact copy."""
        return {"config.json": self.card_text, "model.safetensors": self.weights}

    def _require(self, name: str, value: _T | None) -> _T:
        if value is None:
            by = "image_size=..." if name == "image_size" else "data=vqdist.models.model_card.DataDescription(...)"
            expected = f"the {name} of the training data: save_model(model, folder, {by}) stores it"
            raise CheckpointError.of(f"{self.folder / 'config.json'}: {name}", "nothing", expected)
        return value


def save_model(
    model: SavableModel,
    folder: str | Path,
    *,
    step: int | None = None,
    metrics: Mapping[str, float] | None = None,
    data: DataDescription | None = None,
    image_size: int | tuple[int, int] | None = None,
    vqvae_dir: str | Path | None = None,
    check_owner: Callable[[], None] | None = None,
) -> None:
    """Save a model; a saved model that is already in the folder is replaced atomically.

    Args:
        model: a module whose `config` holds the arguments that rebuild it, as JSON values. The lower-case name of its
            class is saved as its kind; load_model builds those in MODELS.
        folder: folder of the model, for example RUN/model.
        step: optimizer step of the weights.
        metrics: validation metrics at that step.
        data: facts about the dataset that the model was trained on; those of a model that load_model returned are kept.
        image_size: side or (H, W) of the images that it was trained on, without `data`; for `evaluate --pictures`.
        vqvae_dir: for a PixelCNN, the VQ-VAE that made its codes, which is saved with it; a path as in load_model.
        check_owner: called before the folder of a run is replaced, whatever is in it; raises if this process no longer
            owns the run.
    Raises:
        UserError: not such a module, but for example one in DistributedDataParallel; or, without check_owner, a folder
            that has other content than a saved model.
        CheckpointError: no valid VQ-VAE in vqvae_dir.
        OSError: the files could not be written; the previous model is unchanged.
    """
    if type(model).__name__ in _WRAPPERS or not isinstance(getattr(model, "config", None), dict):
        expected = "a VQVAE or PixelCNN itself, not what torch.compile or DistributedDataParallel returns for it"
        raise UserError.of("model", type(model).__name__, expected)
    if check_owner is None:
        _refuse_other_content(Path(folder))
    known = data or getattr(model, "data_description", None)
    description = known if isinstance(known, DataDescription) else DataDescription()
    if image_size is not None:
        sides = (image_size, image_size) if isinstance(image_size, int) else image_size
        description = replace(description, image_size=sides)
    weights = save_tensors({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()})
    card = ModelCard(
        kind=type(model).__name__.lower(),
        model=model.config,
        weights_bytes=len(weights),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        step=step,
        metrics=metrics or {},
        data=description,
    )
    contents = {"config.json": card.to_json(), "model.safetensors": weights}
    if vqvae_dir is not None:
        vqvae = read_model_files(vqvae_dir, kind="vqvae")
        contents |= {f"{VQVAE_FOLDER}/{name}": content for name, content in vqvae.contents.items()}
    clear_leftovers(Path(folder).parent, glob.escape(Path(folder).name))
    write_folder(Path(folder), contents, check=check_owner)


def _refuse_other_content(folder: Path) -> None:
    """Raise a UserError if a path has content that is no saved model, which must not be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        ModelCard.from_json((folder / "config.json").read_bytes(), str(folder))
    except (OSError, CheckpointError):
        expected = "a new or empty folder, or a saved model, which is replaced"
        raise UserError.of(str(folder), "other content than a saved model", expected) from None


def load_model(path: str | Path) -> VQVAE | PixelCNN:
    """Load a saved model on the CPU, in eval mode.

    Args:
        path: a run directory, its `model/`, or a dataset of codes (loads the VQ-VAE that made them); or a name of
            vqdist.foundation.model_names: hf://ORG/NAME[@REVISION] or starter.
    Raises:
        CheckpointError: no model, damaged files, or weights that do not fit the architecture in config.json.
    """
    return build_model(read_model_files(path))


def read_model_card(path: str | Path) -> ModelCard:
    """Read the card of a saved model and verify its files; path and errors as in load_model."""
    return read_model_files(path).card


def fingerprint(path: str | Path) -> str:
    """Return the fingerprint of a saved model; path and errors as in load_model."""
    return read_model_card(path).fingerprint


def find_model(path: str | Path, *, kind: str | None = None) -> Path:
    """Return the folder that holds config.json and model.safetensors; path as in load_model.

    Args:
        kind: the kind that is required, for the message.
    Raises:
        CheckpointError: no model at the path.
    """
    path = locate_model(path)
    for folder in (path, path / "model", path / VQVAE_FOLDER) * 2:  # twice: a writer may replace the folder meanwhile
        if (folder / "config.json").is_file() or (aside_path(folder) / "config.json").is_file():
            return folder
    status = read_status(path)
    if (state := status.get("state")) in _NO_MODEL_YET:
        verb, advice = _NO_MODEL_YET[state]
        reason = "".join(f" ({line})" for line in str(status.get("error") or "").splitlines()[:1])
        found = f"no model: its training {verb} at step {status.get('step')}{reason}, before it saved a model"
        raise CheckpointError.of(str(path), found, f"a run that saved a model: {advice}")
    codes = "" if kind == "pixelcnn" else "a dataset of codes, "  # it contains a VQ-VAE
    expected = f"a run directory, its model/, {codes}{STARTER}, {HUB_FORM}"
    found = "a dataset of images" if is_dataset(path) else "no model" if path.exists() else "nothing"
    raise CheckpointError.of(str(path), found, expected)


def read_model_files(path: str | Path, *, kind: str | None = None) -> ModelFiles:
    """Read the files of a saved model and verify size and sha256 of the weights.

    Args:
        path: as in load_model.
        kind: the required kind, "vqvae" or "pixelcnn"; None for either.
    Raises:
        CheckpointError: no model, a model of the other kind, or damaged files.
    """
    folder = find_model(path, kind=kind)
    card_text, weights = _read_consistently(folder)
    card = ModelCard.from_json(card_text, str(folder / "config.json"))
    if kind is not None and card.kind != kind:
        expected = f"{kind}: pass the run of the {_TITLES[kind]}"
        if kind == "vqvae" and (folder / VQVAE_FOLDER).is_dir():
            expected += f", or {folder if Path(path).is_dir() else show_model_name(path)}/{VQVAE_FOLDER} of this prior"
        raise CheckpointError.of(f"{folder / 'config.json'}: kind", card.kind, expected)
    where = str(folder / "model.safetensors")
    if len(weights) != card.weights_bytes:
        raise CheckpointError.of(where, f"{len(weights)} bytes", f"{card.weights_bytes} bytes")
    if (found := hashlib.sha256(weights).hexdigest()) != card.weights_sha256:
        raise CheckpointError.of(where, f"sha256 {found}", f"sha256 {card.weights_sha256}: the file is damaged")
    return ModelFiles(folder, card, card_text, weights)


def build_model(files: ModelFiles) -> VQVAE | PixelCNN:
    """Build the model of files that were read before, in eval mode.

    Raises:
        CheckpointError: weights that do not fit the architecture; names every tensor that differs.
    """
    try:
        weights = {name: _widen(tensor) for name, tensor in load_tensors(files.weights).items()}
    except SafetensorError as error:
        raise CheckpointError.of(str(files.folder / "model.safetensors"), error, "safetensors") from error
    # The meta device allocates nothing: an architecture that is far too large is refused before it is built.
    with torch.device("meta"):
        shapes = _construct(files).state_dict()
    if problems := _find_mismatches(files.folder / "model.safetensors", weights, shapes):
        raise CheckpointError(limit_problems(problems, str(files.folder / "model.safetensors")))
    model = _construct(files)
    model.load_state_dict(weights)
    model.data_description = files.card.data  # type: ignore[assignment]  # save_model stores it again
    return model.eval()


def _widen(tensor: Tensor) -> Tensor:
    """Return a tensor as models hold it: saved weights may be half precision."""
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _construct(files: ModelFiles) -> VQVAE | PixelCNN:
    if files.card.kind not in MODELS:
        raise CheckpointError.of(f"{files.folder / 'config.json'}: kind", files.card.kind, " or ".join(MODELS))
    try:
        return MODELS[files.card.kind](**files.card.model)
    except (TypeError, ValueError, RuntimeError, UserError) as error:
        where = f"{files.folder / 'config.json'}: model"
        raise CheckpointError.of(where, error, f"arguments of a {files.card.kind}") from error


def _find_mismatches(file: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[Problem]:
    def describe(tensor: Tensor | None) -> str:
        return "nothing" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype}".replace("torch.", "")

    pairs = [(name, describe(found.get(name)), describe(expected.get(name))) for name in sorted({*found, *expected})]
    return [Problem(f"{file}: {name}", is_found, wanted) for name, is_found, wanted in pairs if is_found != wanted]


def _read_consistently(folder: Path) -> tuple[bytes, bytes]:
    """Read both files from the same version of a folder that a writer may replace at any time."""
    for attempt in range(READ_ATTEMPTS):
        last = attempt == READ_ATTEMPTS - 1
        for place in (folder, aside_path(folder)):
            try:
                return _read_pair(place)
            except FileNotFoundError as error:
                if last and place.exists():
                    raise CheckpointError.of(str(folder), f"no {error.filename}", "a complete model") from error
            except OSError as error:
                raise CheckpointError.of(str(folder), error, "readable files") from error
        time.sleep(0.01)
    raise CheckpointError.of(str(folder), "no complete model", "config.json and model.safetensors")


def _read_pair(folder: Path) -> tuple[bytes, bytes]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:

        def opener(name: str, flags: int) -> int:
            return os.open(name, flags, dir_fd=descriptor)

        with open("config.json", "rb", opener=opener) as file:
            config = file.read(MAX_CARD_BYTES)
        with open("model.safetensors", "rb", opener=opener) as file:
            return config, file.read()
    finally:
        os.close(descriptor)
