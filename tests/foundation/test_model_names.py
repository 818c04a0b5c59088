"""Names of models on the hub and of the starter pair, told apart from folders."""

from pathlib import Path

import pytest

from vqdist.foundation.model_names import HubModel, is_model_name, is_starter_name, parse_hub_name, show_model_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf://org/name", HubModel("org/name")),
        ("hf://org/na.me-2@v1.0", HubModel("org/na.me-2", "v1.0")),
        ("hf://org/name@refs/pr/3", HubModel("org/name", "refs/pr/3")),
        ("hf://org/name/vqvae", HubModel("org/name", has_part=True)),
        ("hf://org/name@main/vqvae", HubModel("org/name", "main", has_part=True)),
    ],
)
def test_a_name_has_repository_revision_and_part(name: str, expected: HubModel) -> None:
    assert parse_hub_name(name) == parse_hub_name(Path(name)) == expected
    assert str(expected) == show_model_name(Path(name)) == name
    assert is_model_name(Path(name))


@pytest.mark.parametrize(
    "name", ["hf://", "hf://name", "hf://org/", "hf://org/name@", "hf://a/b/c", "hf://../b", "hf://a/b c"]
)
def test_incomplete_names_refer_to_nothing(name: str) -> None:
    assert is_model_name(name)
    assert parse_hub_name(name) is None


def test_a_folder_named_starter_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_starter_name("starter")
    assert is_starter_name(Path("starter/vqvae"))
    assert not is_starter_name("runs/starter")
    Path("starter").mkdir()
    assert not is_starter_name("starter")
    assert not is_model_name("runs/hf")
    assert show_model_name("runs/hf") == "runs/hf"
