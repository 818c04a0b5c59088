"""Models by name: downloaded once from a server that speaks the hub's protocol, then read from its cache."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, HubServer, Repository
from huggingface_hub import constants
from support.hub import leave_hub, running_hub
from support.models import save_prior, save_vqvae

from vqdist import load_model
from vqdist.foundation import model_names
from vqdist.foundation.errors import CheckpointError
from vqdist.models import hub
from vqdist.models.hub import download_model, locate_model
from vqdist.models.io import fingerprint, read_model_files


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a saved model."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    """A hub with org/vqvae: two commits, the first one tagged v1."""
    with running_hub(tmp_path / "hub", token=None) as running:
        repository = running.repositories["org/vqvae"] = Repository()
        for seed in (0, 1):
            files = read_files(save_vqvae(tmp_path / f"run-{seed}", seed=seed) / "model")
            commit = repository.commit({**files, "notes.pdf": b"0" * 10})
            repository.refs.setdefault("v1", commit)
        yield running


def test_a_revision_is_a_branch_a_tag_or_a_commit(server: HubServer, tmp_path: Path) -> None:
    commits = list(server.repositories["org/vqvae"].commits)
    old, new = (fingerprint(tmp_path / f"run-{seed}") for seed in (0, 1))
    assert fingerprint("hf://org/vqvae") == new
    assert fingerprint(Path("hf://org/vqvae@v1")) == fingerprint(f"hf://org/vqvae@{commits[0]}") == old
    loaded, own = load_model("hf://org/vqvae@v1"), load_model(tmp_path / "run-0")
    assert all(torch.equal(found, own.state_dict()[name]) for name, found in loaded.state_dict().items())
    assert not any("notes.pdf" in request for request in server.requests)


def test_a_commit_in_the_cache_needs_no_request(server: HubServer) -> None:
    commit = server.repositories["org/vqvae"].refs["v1"]
    load_model(f"hf://org/vqvae@{commit}")
    download_model.cache_clear()
    server.requests.clear()
    load_model(f"hf://org/vqvae@{commit}")
    assert server.requests == []


def test_a_branch_does_not_move_within_a_process(server: HubServer, tmp_path: Path) -> None:
    first = fingerprint("hf://org/vqvae")
    repository = server.repositories["org/vqvae"]
    repository.commit(repository.commits[repository.refs["v1"]])
    assert fingerprint("hf://org/vqvae") == first
    download_model.cache_clear()
    assert fingerprint("hf://org/vqvae") == fingerprint(tmp_path / "run-0") != first


@pytest.mark.parametrize("is_offline", [True, False])
def test_the_cache_is_enough_without_a_network(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_offline: bool
) -> None:
    expected = fingerprint("hf://org/vqvae")
    leave_hub(monkeypatch, tmp_path / "hub")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    assert fingerprint("hf://org/vqvae") == expected


@pytest.mark.parametrize(
    ("is_offline", "found"),
    [(True, "found HF_HUB_OFFLINE, and no complete copy"), (False, "no answer from http://127.0.0.1:9")],
)
def test_without_network_and_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_offline: bool, found: str
) -> None:
    leave_hub(monkeypatch, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    with pytest.raises(CheckpointError, match=r"hf://org/vqvae: .*expected") as error:
        load_model("hf://org/vqvae")
    assert found in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://org/nothing", "hf://org/nothing: found no such repository, or a private one that you may not read"),
        ("hf://org/vqvae@v7", "hf://org/vqvae@v7: found no such revision; expected a branch, a tag or the hash"),
        ("hf://vqvae", "hf://vqvae: found an incomplete name; expected hf://ORG/NAME or hf://ORG/NAME@REVISION"),
    ],
)
def test_what_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(CheckpointError) as error:
        load_model(Path(name))
    assert str(error.value).startswith(message)


def test_a_private_repository_needs_a_token(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.repositories["org/vqvae"].private = True
    with pytest.raises(CheckpointError, match="`hf auth login` or HF_TOKEN"):
        load_model("hf://org/vqvae")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    load_model("hf://org/vqvae")


@pytest.mark.usefixtures("server")
def test_damage_on_the_way_is_an_error() -> None:
    folder = locate_model("hf://org/vqvae")
    blob = (folder / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    with pytest.raises(CheckpointError, match="sha256"):
        load_model("hf://org/vqvae")


def test_the_part_of_a_prior_is_its_vqvae(server: HubServer, tmp_path: Path, code_set: Path) -> None:
    prior = save_prior(tmp_path / "prior", code_set)
    server.repositories["org/prior"] = Repository()
    server.repositories["org/prior"].commit(read_files(prior / "model"))
    assert fingerprint("hf://org/prior") == fingerprint(prior)
    assert fingerprint("hf://org/prior/vqvae") == fingerprint(code_set)


def test_the_starter_pair_is_package_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_set: Path) -> None:
    prior = save_prior(tmp_path / "prior", code_set)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "STARTER_FOLDER", prior / "model")
    assert fingerprint("starter") == fingerprint(prior)
    assert read_model_files(Path("starter/vqvae"), kind="vqvae").card.fingerprint == fingerprint(code_set)
    monkeypatch.setattr(hub, "STARTER_FOLDER", tmp_path / "none")
    with pytest.raises(
        CheckpointError, match=r"starter: found nothing; expected .*`bash launch/starter.sh` trains one"
    ):
        load_model("starter")


def test_the_starter_folder_is_in_the_package() -> None:
    root = Path(__file__).parents[2]
    assert root / "vqdist" / "starter" == model_names.STARTER_FOLDER
    settings = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["vqdist"]
    folder = model_names.STARTER_FOLDER.name
    assert {f"{folder}/*", f"{folder}/vqvae/*"} <= set(patterns)
