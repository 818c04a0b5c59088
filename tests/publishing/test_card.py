"""The card of a published model: everything a reader must know, and nothing of the publisher's machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from publishing_support import REPORT
from support.commands import tiny_flags, train
from support.models import save_prior, save_vqvae, write_codes

from vqdist.config.attributes import Attribute, AttributeRow
from vqdist.config.publish_options import PublishOptions
from vqdist.data.shards.manifest import load_manifest
from vqdist.models.io import build_model, fingerprint, read_model_files, save_model
from vqdist.models.model_card import DataDescription
from vqdist.models.pixelcnn import PixelCNN
from vqdist.publish import find_personal_data
from vqdist.publishing.card import build_card, describe_training
from vqdist.publishing.publication import collect_publication


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory, image_set: Path) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return save_prior(folder / "prior", write_codes(folder / "codes", save_vqvae(folder / "vqvae"), image_set))


def build(run: Path, *reports: Path, target: str = "out", **facts: str) -> str:
    publication = collect_publication(PublishOptions(run=run, target=target, report=reports))
    given = {"name": "hf://org/brains", "data_terms": None, "license": None}
    return build_card(publication, **given | facts)  # type: ignore[arg-type]


def sections(card: str) -> dict[str, str]:
    """Return the text of each section by its heading."""
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in card.split("\n## ")[1:]}


def write_report(path: Path, **values: object) -> Path:
    path.write_text(json.dumps(REPORT | values))
    return path


def test_the_figures_copies_and_membership_are_those_of_the_reports(prior: Path, tmp_path: Path) -> None:
    metrics = REPORT["metrics"] | {"membership_auc": {"mean": 0.561, "low": 0.5, "high": 0.62}}
    ours = write_report(tmp_path / "prior.json", model=fingerprint(prior), metrics=metrics)
    ssim = {"ssim": {"mean": 0.963, "low": 0.962, "high": 0.964}}
    other = write_report(
        tmp_path / "vqvae.json", task="vqvae", model=fingerprint(prior / "model" / "vqvae"), metrics=ssim, realism=None
    )
    found = sections(build(prior, ours, other))
    assert "PixelCNN, split `test`, 96 samples of 3 subjects; intervals are 95 %, over subjects." in found["Figures"]
    assert "| `bits_per_code` | 2.32 | 2.26 to 2.38 |" in found["Figures"]
    assert "| `uniform_bits_per_code` | 9 |  |" in found["Figures"]
    assert "VQ-VAE, split `test`" in found["Figures"]
    assert "| `ssim` | 0.963 | 0.962 to 0.964 |" in found["Figures"]
    assert "1 of 256 samples (0 of 96 real slices of the split)" in found["Copies and membership"]
    assert "is 0.875 for the samples and 0.75 for the real slices" in found["Copies and membership"]
    assert "Membership AUC on `test`: 0.561 (0.5 to 0.62)" in found["Copies and membership"]


def test_the_training_of_both_models_is_described_by_what_their_files_record(prior: Path, tmp_path: Path) -> None:
    files = read_model_files(prior.parent / "vqvae")
    metrics = {"loss": 0.0412, "ssim": 0.9341}
    save_model(build_model(files), tmp_path / "vqvae", step=3000, metrics=metrics, data=files.card.data)
    model = build_model(read_model_files(prior))
    save_model(model, tmp_path / "prior", vqvae_dir=tmp_path / "vqvae")
    first, second = sections(build(tmp_path / "prior"))["Training"].split("\n\n")
    assert first == f"PixelCNN, fingerprint `{fingerprint(tmp_path / 'prior')}`."
    assert second.startswith(f"VQ-VAE, fingerprint `{fingerprint(tmp_path / 'vqvae')}`, weights of step 3,000")
    assert second.endswith(" On the validate split at that step: `loss` 0.0412, `ssim` 0.9341.")


@pytest.mark.parametrize(
    ("images", "expected"), [("same", "the same images"), ("another", "other images than the VQ-VAE")]
)
def test_the_card_says_whether_both_models_saw_the_same_images(images: str, expected: str, prior: Path) -> None:
    found = collect_publication(PublishOptions(run=prior, target="out"))
    assert found.vqvae is not None
    card = replace(found.vqvae.card, data=replace(found.vqvae.card.data, data_fingerprint="same", image_size=(32, 32)))
    codes = load_manifest(prior.parent / "codes")
    dataset = replace(codes, source=codes.source | {"images_fingerprint": images})
    text = "\n".join(describe_training(replace(found, vqvae=found.vqvae._replace(card=card), dataset=dataset)))
    assert "trained on images of 32 x 32 pixels (dataset fingerprint `same`)" in text
    assert text.endswith(f"The PixelCNN was trained on codes of {expected}.")


def test_what_was_not_measured_or_stated_is_said(prior: Path) -> None:
    found = sections(build(prior))
    assert found["Figures"].startswith("not measured by the publisher")
    assert found["Copies and membership"].count("not measured by the publisher") == 2
    assert found["Training data"].startswith("The publisher has not stated")
    assert "This is no medical device" in found["Intended use"]
    assert "not measured by the publisher" not in sections(build(prior.parent / "vqvae"))["Copies and membership"]


def test_attributes_of_the_training_subjects_are_described_with_the_data(prior: Path, tmp_path: Path) -> None:
    age = Attribute(kind="number", low=20, high=90, unknown=1)
    model = PixelCNN(64, hidden=4, layers=1, condition=["age"], attributes={"age": age})
    data = DataDescription(attributes={"age": age}, attribute_rows=(AttributeRow((33.0,), ((None, None, None, 1),)),))
    save_model(model, tmp_path / "model", data=data, vqvae_dir=prior.parent / "vqvae")
    found = sections(build(tmp_path))
    assert "`age`: a number from 20 to 90" in found["Training data"]
    assert "lists the combinations that the training subjects have" in found["Training data"]
    assert "`condition` age" in found["Configuration"]
    assert "num_slices" not in found["Configuration"], "of a condition that the prior does not take"
    assert "attributes" not in found["Configuration"]
    assert find_personal_data({}) == []
    assert "combinations of age" in find_personal_data(data.attributes)[0]


def test_terms_and_licence_are_those_of_the_publisher(prior: Path) -> None:
    card = build(prior, data_terms="Slices of *Somebody et al.*, CC BY-NC 3.0.", license="cc-by-nc-3.0")
    assert yaml.safe_load(card.split("---")[1]) == {
        "library_name": "vqdist",
        "tags": ["vqdist", "pixelcnn", "vq-vae"],
        "license": "cc-by-nc-3.0",
    }
    assert sections(card)["Training data"].startswith("Slices of *Somebody et al.*, CC BY-NC 3.0.")
    assert 'vqdist.load_model("hf://org/brains")' in sections(card)["Use"]
    assert "vqdist sample --prior hf://org/brains" in sections(card)["Use"]
    assert "vqdist encode --run hf://org/brains" in sections(build(prior.parent / "vqvae"))["Use"]


def test_the_card_of_a_run_has_its_settings_and_dataset_without_paths(image_set: Path, tmp_path: Path) -> None:
    names = ("--data.path", image_set, "--run.dir", tmp_path / "home-of-me", "--run.name", "tiny")
    train(*tiny_flags(), *names, "--train.max_steps", 2, "--tracking.entity", "my-team")
    card = build(tmp_path / "home-of-me" / "tiny", target="hf://org/tiny")
    assert card.partition("\n# ")[2].startswith("org/tiny\n")
    found = sections(card)
    assert "32 x 32 pixels, 1 channel: train 60 slices of 20 subjects; validate 9 slices" in found["Training data"]
    assert "`lr` 0.001" in found["Configuration"]
    assert "`hidden` 8" in found["Configuration"]
    assert "`global_batch_size` 8" in found["Configuration"]
    for private in ("home-of-me", str(image_set), "my-team"):
        assert private not in card
