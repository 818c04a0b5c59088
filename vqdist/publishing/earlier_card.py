"""The card that a saved model already has: what a new card keeps of it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vqdist.foundation.errors import CheckpointError
from vqdist.foundation.model_names import VQVAE_FOLDER
from vqdist.models.hub import CARD
from vqdist.models.io import ModelFiles
from vqdist.models.model_card import ModelCard
from vqdist.publishing.reports import TITLES

SECTIONS = (
    "Use",
    "Intended use",
    "Training data",
    "Training",
    "Configuration",
    "Figures",
    "Copies and membership",
    "Citation",
)
NOT_MEASURED = "not measured by the publisher; `vqdist evaluate` measures it."
_HEADING = re.compile(rf"^## ({'|'.join(SECTIONS)})[ \t]*$", re.MULTILINE)
_HEADER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_TABLE = re.compile(rf"\n\n(?=(?:{'|'.join(TITLES.values())}), split )")


@dataclass(frozen=True)
class EarlierCard:
    """What a new card may keep.

    Attributes:
        license: the keys of the header that state the licence, such as license and license_link.
        sections: title -> text.
    """

    license: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)

    def list_tables(self, tasks: Collection[str]) -> list[str]:
        """Return the tables of figures of the models of these tasks, and text that is of no model."""
        others = tuple(f"{title}, split " for task, title in TITLES.items() if task not in tasks)
        tables = _TABLE.split(self.sections.get("Figures", ""))
        return [table for table in tables if table and not table.startswith((NOT_MEASURED, *others))]

    def list_lines(self, start: str) -> list[str]:
        """Return the lines about copies and membership that begin with a text."""
        return [line for line in self.sections.get("Copies and membership", "").splitlines() if line.startswith(start)]


def read_earlier_card(files: ModelFiles) -> tuple[EarlierCard, list[str]]:
    """Return what the README.md beside a saved model states of it, and warnings.

    The VQ-VAE in a published PixelCNN is described by the card of the PixelCNN; its settings are not kept.

    Raises:
        CheckpointError: a header that is no YAML.
    """
    folder, fingerprint = files.folder, files.card.fingerprint
    is_part = folder.name == VQVAE_FOLDER and not (folder / CARD).is_file()
    if is_part and (folder.parent / "config.json").is_file():
        folder = folder.parent
        fingerprint = ModelCard.from_json(
            (folder / "config.json").read_bytes(), str(folder / "config.json")
        ).fingerprint
    if not (folder / CARD).is_file():
        return EarlierCard(), []
    text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    if fingerprint not in text:
        found = f"{folder / CARD} does not state the fingerprint of the model, {fingerprint}"
        return EarlierCard(), [f"{found}: it is the text of another model, and nothing of it is kept"]
    parts = _HEADING.split(text)[1:]
    sections = {title: part.strip() for title, part in zip(parts[::2], parts[1::2], strict=True)}
    if is_part:
        sections = {title: sections[title] for title in ("Training data", "Figures") if title in sections}
    return EarlierCard(_read_license(text, folder / CARD), sections), []


def _read_license(text: str, path: Path) -> dict[str, Any]:
    header = _HEADER.match(text)
    try:
        values = yaml.safe_load(header[1]) if header else {}
    except yaml.YAMLError as error:
        found = f"no YAML: {' '.join(str(error).split())}"
        raise CheckpointError.of(
            f"{path}, header", found, "keys such as `license: mit` between two lines of ---"
        ) from error
    found_keys = values if isinstance(values, dict) else {}
    return {key: value for key, value in found_keys.items() if str(key).startswith("license")}
