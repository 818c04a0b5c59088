"""The card of a model that is published again keeps what the earlier card states."""

import json
from pathlib import Path

import pytest
import yaml
from publishing_support import REPORT
from support.models import save_vqvae

from vqdist.config.publish_options import PublishOptions
from vqdist.foundation.errors import CheckpointError
from vqdist.foundation.model_names import STARTER_FOLDER
from vqdist.models.io import fingerprint, read_model_files
from vqdist.publishing.card import build_card
from vqdist.publishing.earlier_card import read_earlier_card
from vqdist.publishing.publication import Publication, collect_publication


def collect(run: Path, *reports: Path) -> Publication:
    return collect_publication(PublishOptions(run=run, target="out", report=reports))


def build(run: Path, *reports: Path, data_terms: str | None = None, license: str | None = None) -> str:
    return build_card(collect(run, *reports), name="out", data_terms=data_terms, license=license)


def sections(card: str) -> dict[str, str]:
    """Return the text of each section by its heading."""
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in card.split("\n## ")[1:]}


STARTER_CARD = (STARTER_FOLDER / "README.md").read_text()


def test_every_section_is_kept_without_flags() -> None:
    kept = sections(build(STARTER_FOLDER))
    for title in ("Training data", "Configuration", "Figures", "Copies and membership"):
        assert kept[title] == sections(STARTER_CARD)[title]
    assert yaml.safe_load(build(STARTER_FOLDER).split("---")[1])["license"] == "apache-2.0"


def test_flags_replace_the_licence_and_the_terms() -> None:
    card = build(STARTER_FOLDER, data_terms="Other data.", license="mit")
    assert sections(card)["Training data"] == "Other data."
    assert yaml.safe_load(card.split("---")[1])["license"] == "mit"
    assert "Colin 27" not in card
    publication = collect(STARTER_FOLDER)
    assert publication.list_kept(data_terms="Other data.", license="mit") == ["configuration", "figures"]


def test_a_report_replaces_the_figures_of_its_model_alone(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps(REPORT | {"model": fingerprint(STARTER_FOLDER), "realism": None}))
    found = sections(build(STARTER_FOLDER, report))
    assert "| `bits_per_code` | 2.32 | 2.26 to 2.38 |" in found["Figures"]
    assert "| `bits_per_code` | 2.523 |" not in found["Figures"]
    assert "| `ssim` | 0.9427 |" in found["Figures"]
    assert "0 of 256 samples" in found["Copies and membership"], "the report has no samples"
    assert "Membership AUC on `test`: 0.9108" in found["Copies and membership"]


def test_the_card_of_a_prior_describes_its_vqvae() -> None:
    card = build(STARTER_FOLDER / "vqvae")
    found = sections(card)
    assert found["Training data"] == sections(STARTER_CARD)["Training data"]
    assert "| `ssim` | 0.9427 |" in found["Figures"]
    assert "bits_per_code" not in card
    assert "`layers` 8" not in found["Configuration"], "of the prior"


def test_all_keys_of_the_licence_are_kept(tmp_path: Path) -> None:
    model = save_vqvae(tmp_path / "vqvae")
    header = "---\nlicense: other\nlicense_link: LICENSE.md\ntags: [x]\n---\n"
    files = read_model_files(model)
    (files.folder / "README.md").write_text(f"{header}# x\n\nFingerprint `{files.card.fingerprint}`\n")
    assert read_earlier_card(files)[0].license == {"license": "other", "license_link": "LICENSE.md"}
    assert read_earlier_card(files)[0].sections == {}


def test_the_text_of_another_model_is_not_kept(tmp_path: Path) -> None:
    files = read_model_files(save_vqvae(tmp_path / "vqvae"))
    (files.folder / "README.md").write_text(STARTER_CARD)
    card, warnings = read_earlier_card(files)
    assert (card.license, card.sections) == ({}, {})
    assert f"{files.folder / 'README.md'} does not state the fingerprint of the model" in warnings[0]


def test_a_header_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    files = read_model_files(save_vqvae(tmp_path / "vqvae"))
    (files.folder / "README.md").write_text(f"---\nlicense: [\n---\n{files.card.fingerprint}\n")
    with pytest.raises(CheckpointError, match=r"README.md, header: found no YAML: .*; expected keys such as"):
        read_earlier_card(files)
