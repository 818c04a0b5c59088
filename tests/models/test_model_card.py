"""The model card: round trip, files of earlier versions, invalid entries."""

import json
from pathlib import Path
from typing import Any

import pytest

from vqdist import load_model
from vqdist.foundation.errors import CheckpointError
from vqdist.models.io import read_model_files, save_model
from vqdist.models.model_card import DataDescription, ModelCard
from vqdist.models.vqvae import VQVAE

DATA = DataDescription(
    data_fingerprint="ab",
    image_size=(32, 48),
    class_names=("a", "b"),
    grid=(4, 6),
    vqvae_fingerprint="cd",
    conditions=((0, None, 3), (1, 7, 2)),
)
CARD = ModelCard("pixelcnn", {"num_codes": 8}, 12, "0f", step=3, metrics={"loss": 0.5}, data=DATA)


def test_a_card_is_restored_from_its_text() -> None:
    assert ModelCard.from_json(CARD.to_json(), "config.json") == CARD


def test_the_entries_of_the_file() -> None:
    assert json.loads(CARD.to_json()) == {
        "format_version": 1,
        "kind": "pixelcnn",
        "model": {"num_codes": 8},
        "step": 3,
        "metrics": {"loss": 0.5},
        "weights": {"bytes": 12, "sha256": "0f"},
        "data_fingerprint": "ab",
        "image_size": [32, 48],
        "class_names": ["a", "b"],
        "grid": [4, 6],
        "vqvae_fingerprint": "cd",
        "conditions": [[0, None, 3], [1, 7, 2]],
    }
    unknown = json.loads(ModelCard("vqvae", {}, 12, "0f").to_json())
    assert unknown.keys() == {"format_version", "kind", "model", "step", "metrics", "weights", "class_names"}


def test_unknown_entries_are_ignored_and_optional_ones_may_be_missing() -> None:
    required = {"format_version": 1, "kind": "vqvae", "model": {}, "weights": {"bytes": 1, "sha256": ""}}
    card = ModelCard.from_json(json.dumps(required | {"note": [1, 2]}).encode(), "config.json")
    assert card == ModelCard("vqvae", {}, 1, "")


def test_all_invalid_entries_are_reported_together() -> None:
    values = json.loads(CARD.to_json()) | {"kind": 3, "model": [], "weights": {"bytes": -1}, "grid": [4]}
    with pytest.raises(CheckpointError) as caught:
        ModelCard.from_json(json.dumps(values).encode(), "config.json")
    found = [problem.where for problem in caught.value.problems]
    expected = ["kind", "model", "weights, bytes", "weights, sha256", "grid"]
    assert found == [f"config.json, {name}" for name in expected]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", [0, 4]),
        ("grid", "4 x 6"),
        ("class_names", [1]),
        ("conditions", [[0, 1]]),
        ("conditions", [[0, 1, 0]]),
        ("step", "3"),
        ("metrics", [0.5]),
    ],
)
def test_invalid_facts_are_refused(name: str, value: Any) -> None:
    text = json.dumps(json.loads(CARD.to_json()) | {name: value}).encode()
    with pytest.raises(CheckpointError, match=f"config.json, {name}"):
        ModelCard.from_json(text, "config.json")


def save_small_vqvae(folder: Path) -> Path:
    save_model(VQVAE(1, hidden=8, residual_hidden=4, code_dim=4, num_codes=8), folder)
    return folder / "config.json"


def test_a_fact_that_is_missing_is_an_error_where_it_is_needed(tmp_path: Path) -> None:
    save_small_vqvae(tmp_path / "m")
    files = read_model_files(tmp_path / "m")
    for name in ("grid", "image_size", "conditions"):
        with pytest.raises(CheckpointError, match=f"config.json: {name}: found nothing"):
            getattr(files, name)


INVALID_CARDS = {
    "empty": b"",
    "not utf-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "another format": {"format_version": 2},
    "unknown kind": {"kind": "pickle"},
    "kind of another type": {"kind": {"a": 1}},
    "no weights": {"weights": None},
    "weights without sha256": {"weights": {"bytes": 1}},
    "arguments as list": {"model": []},
    "unknown argument": {"model": {"hiden": 8}},
    "text for a number": {"model": {"hidden": "8"}},
    "not a whole number": {"model": {"hidden": 8.5}},
    "a giant": {"model": {"hidden": 2**40}},
    "out of range": {"model": {"downsample": 5}},
    "endless layers": {"model": {"residual_layers": 2**40}},
}


@pytest.mark.parametrize("change", INVALID_CARDS.values(), ids=INVALID_CARDS.keys())
def test_an_invalid_card_is_refused(tmp_path: Path, change: bytes | dict) -> None:
    file = save_small_vqvae(tmp_path / "m")
    if isinstance(change, bytes):
        file.write_bytes(change)
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match=r"config\.json|safetensors"):
        load_model(tmp_path / "m")
