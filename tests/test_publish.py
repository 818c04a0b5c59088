"""`vqdist publish`: to a folder and to a hub, where every command then reads the model."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from hub_server import HubServer, Repository
from huggingface_hub.utils import _http
from PIL import Image
from support.commands import run_command_main, tiny_flags
from support.datasets import SIZE
from support.hub import leave_hub, running_hub
from support.models import save_prior, save_vqvae, write_codes

from vqdist import load_model
from vqdist.foundation.model_names import STARTER_FOLDER
from vqdist.models.hub import download_model
from vqdist.models.io import fingerprint, read_model_files

MODEL_FILES = ["config.json", "model.safetensors", "vqvae/config.json", "vqvae/model.safetensors"]
# huggingface_hub 2.4 uploads with an argument that its HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
QUIET = ["--device", "cpu"]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory, image_set: Path) -> Path:
    """A PixelCNN and its codes, beside the VQ-VAE and the codes."""
    folder = tmp_path_factory.mktemp("models")
    codes = write_codes(folder / "codes", save_vqvae(folder / "vqvae"), image_set)
    return save_prior(folder / "prior", codes)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HubServer]:
    with running_hub(tmp_path / "hub") as running:
        yield running


def run(command: str, *words: object) -> int:
    return run_command_main(command, [str(word) for word in words])


def read_errors(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_a_published_model_is_used_by_every_command(
    server: HubServer, prior: Path, image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("publish", prior, "hf://org/brains", "--data-terms", "Synthetic brains.", "--license", "mit") == 0
    answer = json.loads(capsys.readouterr().out)
    repository = server.repositories["org/brains"]
    assert answer == {
        "published": "hf://org/brains",
        "revision": repository.refs["main"],
        "files": ["README.md", *MODEL_FILES],
    }
    (files,) = repository.commits.values()
    assert all(files[name] == (prior / "model" / name).read_bytes() for name in MODEL_FILES)
    assert not repository.private

    name = f"hf://org/brains@{answer['revision']}"
    assert fingerprint(name) == fingerprint(prior)
    vqvae = f"hf://org/brains@{answer['revision']}/vqvae"
    sample = ("--prior", name, "--num", 2, *QUIET)
    assert run("sample", *sample, "--vqvae", vqvae, "--out", tmp_path / "samples") == 0
    assert json.loads((tmp_path / "samples" / "samples.json").read_text())["prior"] == name
    assert run("encode", "--run", vqvae, "--data", image_set, "--out", tmp_path / "codes", *QUIET) == 0
    evaluate = ("evaluate", "--run", name, "--data", tmp_path / "codes", "--out", tmp_path / "report.json", *QUIET)
    assert run(*evaluate) == 0
    assert json.loads((tmp_path / "report.json").read_text())["model"] == fingerprint(prior)
    pictures = tmp_path / "samples" / "sample-00000.png"
    score = ("--prior", name, "--data", image_set, "--out", tmp_path / "scores", "--restorations", 1, *QUIET)
    assert run("score", *score, "--healthy", f"{image_set}:validate") == 0
    mask = tmp_path / "mask.png"
    Image.fromarray(np.full((SIZE, SIZE), 255, np.uint8)).save(mask)
    complete = ("--prior", name, "--pictures", pictures, "--mask", mask, "--out", tmp_path / "completed", *QUIET)
    assert run("complete", *complete, "--num", 1, "--draws", 1) == 0
    assert run("publish", name, tmp_path / "copy", "--report", tmp_path / "report.json") == 0
    assert fingerprint(tmp_path / "copy") == fingerprint(prior)


def test_a_run_starts_from_the_weights_of_a_published_model(
    server: HubServer, prior: Path, image_set: Path, tmp_path: Path
) -> None:
    assert run("publish", prior.parent / "vqvae", "hf://org/vqvae") == 0
    flags = [
        *tiny_flags(),
        "--data.path",
        image_set,
        "--run.dir",
        tmp_path,
        "--run.name",
        "tuned",
        "--run.device",
        "cpu",
    ]
    flags += ["--tracking.mode", "disabled", "--train.max_steps", 2, "--checkpoint.resume", "hf://org/vqvae"]
    assert run("train", *flags) == 0
    assert yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())["checkpoint"]["resume"] == "hf://org/vqvae"


def test_a_model_is_published_to_a_folder(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("publish", prior, out) == 0
    written = read_errors(capsys)
    assert "--data-terms TEXT adds them" in written
    assert f"wrote the folder {out}; read its README.md, then" in written
    assert f"vqdist evaluate --run {prior} --data CODES --out report.json" in written
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == ["README.md", *MODEL_FILES]
    assert "vqdist sample --prior out --num 16" in (out / "README.md").read_text()
    assert str(tmp_path) not in (out / "README.md").read_text()
    assert load_model(out).num_codes == load_model(prior).num_codes
    assert run("publish", prior, out) == 2
    assert f"TARGET {out}: found a folder that is not empty" in read_errors(capsys)
    assert run("publish", prior.parent / "vqvae", out, "--overwrite", "true") == 0
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_model_with_a_card_keeps_its_terms_when_published_again(
    server: HubServer, prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("publish", prior, "hf://org/first", "--data-terms", "Synthetic brains.", "--license", "mit") == 0
    capsys.readouterr()
    assert run("publish", "hf://org/first", tmp_path / "second") == 0
    written = read_errors(capsys)
    assert "kept from the README.md of hf://org/first: licence, data and terms, configuration" in written
    assert "--data-terms TEXT" not in written
    card = (tmp_path / "second" / "README.md").read_text()
    assert "license: mit" in card
    assert "Synthetic brains." in card


def test_the_starter_pair_keeps_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("publish", "starter", tmp_path / "starter") == 0
    assert (tmp_path / "starter" / "README.md").read_bytes() == (STARTER_FOLDER / "README.md").read_bytes()
    assert "WARNING" not in read_errors(capsys)


def test_half_precision_halves_the_prior_and_keeps_its_vqvae(prior: Path, tmp_path: Path) -> None:
    assert run("publish", prior, tmp_path / "half", "--weights", "fp16") == 0
    full, half = read_model_files(prior), read_model_files(tmp_path / "half")
    assert len(half.weights) < 0.75 * len(full.weights)
    assert fingerprint(tmp_path / "half" / "vqvae") == fingerprint(prior / "model" / "vqvae")
    assert run("sample", "--prior", tmp_path / "half", "--num", 1, "--out", tmp_path / "samples", *QUIET) == 0


def test_a_repository_with_files_is_replaced_only_when_asked(
    server: HubServer, prior: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.repositories["org/name"] = Repository()
    server.repositories["org/name"].commit({".gitattributes": b"*", "old.bin": b"1"})
    assert run("publish", prior, "hf://org/name") == 2
    assert (
        "hf://org/name: found a repository with files, such as old.bin; expected an empty or new one, or --overwrite"
        in (read_errors(capsys))
    )
    assert run("publish", prior, "hf://org/name", "--overwrite") == 0
    repository = server.repositories["org/name"]
    files = repository.commits[repository.refs["main"]]
    assert sorted(files) == [".gitattributes", "README.md", *MODEL_FILES]
    download_model.cache_clear()
    assert fingerprint("hf://org/name") == fingerprint(prior)


def test_a_private_repository(server: HubServer, prior: Path) -> None:
    assert run("publish", prior, "hf://org/secret", "--private", "true") == 0
    assert server.repositories["org/secret"].private


def test_all_problems_come_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running_hub(tmp_path, token=None):
        assert run("publish", tmp_path / "none", "hf://org/name", "--report", tmp_path / "none.json") == 2
    written = read_errors(capsys)
    assert "hf://org/name: found no token; expected one with write access: `hf auth login` or HF_TOKEN" in written
    assert f"{tmp_path / 'none'}: found nothing; expected a run directory" in written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hf://name"], "TARGET: found hf://name; expected hf://ORG/NAME or a folder"),
        (["hf://org/name@v1"], "TARGET: found hf://org/name@v1; expected hf://ORG/NAME or a folder"),
        (
            ["out", "--private", "true"],
            "--private: found true with a folder as TARGET; expected only with hf://ORG/NAME",
        ),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("publish", "run", *words) == 2
    assert message in read_errors(capsys)


def test_without_a_network(
    prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave_hub(monkeypatch, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    monkeypatch.setattr(_http.time, "sleep", lambda _: None)  # between the tries
    assert run("publish", prior, "hf://org/name") == 2
    assert "hf://org/name: found no answer from http://127.0.0.1:9" in read_errors(capsys)


def test_a_namespace_of_others(server: HubServer, prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("publish", prior, "hf://closed/name") == 2
    assert "hf://closed/name: found no permission (HTTP 403); expected a token that may do this" in read_errors(capsys)
