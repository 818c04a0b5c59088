"""CITATION.cff: what GitHub, Zenodo and citation tools need, and the version of the package."""

from pathlib import Path

import yaml

import vqdist

CITATION = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text())


def test_the_required_fields_of_the_format_are_there() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION.keys() >= {"message", "title", "authors", "type", "license"}
    allowed = {"name", "family-names", "given-names", "orcid", "affiliation"}
    for author in [*CITATION["authors"], *(person for work in CITATION["references"] for person in work["authors"])]:
        assert author.keys() <= allowed
    assert all(work.keys() >= {"type", "title", "authors", "year"} for work in CITATION["references"])


def test_version_and_licence_are_those_of_the_package() -> None:
    assert CITATION["version"] == vqdist.__version__
    assert CITATION["license"] == "MIT"
