"""Reports that `vqdist evaluate --out` wrote, as the card of a published model shows them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqdist.foundation.errors import DataError, collect
from vqdist.foundation.json_validation import Fields, load_json

MAX_REPORT_BYTES = 64 * 2**20
TITLES = {"vqvae": "VQ-VAE", "pixelcnn": "PixelCNN"}


@dataclass(frozen=True)
class Figure:
    """A metric: its mean, and the limits of its 95 % interval over subjects, None if it has none."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CopyCount:
    """Near copies of training slices.

    Attributes:
        samples, samples_of: among the samples, and the number of samples.
        real, real_of: among the real slices of the split, and their number.
        largest, real_largest: greatest similarity of a sample, and of a real slice of the split, to a training slice;
            None in reports of earlier versions.
    """

    samples: int
    samples_of: int
    real: int
    real_of: int
    largest: float | None
    real_largest: float | None


@dataclass(frozen=True)
class EvaluationReport:
    """What a report says about a model.

    Attributes:
        task: "vqvae" or "pixelcnn".
        model: fingerprint of the evaluated model; None in reports of earlier versions.
        copies: None unless samples were evaluated.
    """

    task: str
    split: str
    samples: int
    subjects: int
    metrics: Mapping[str, Figure]
    model: str | None = None
    copies: CopyCount | None = None


def read_report(path: Path, fingerprints: Mapping[str, str]) -> EvaluationReport:
    """Read a report and check that it is of a published model.

    Args:
        fingerprints: kind -> fingerprint of each published model.
    Raises:
        DataError: no such report, or one of another model.
    """
    top = Fields(load_json(path, MAX_REPORT_BYTES), str(path))
    task, split, samples, subjects, metrics, model, realism = collect(
        lambda: top.one_of("task", tuple(fingerprints)),
        lambda: top.text("split"),
        lambda: top.integer("samples"),
        lambda: top.integer("subjects"),
        lambda: _read_figures(top.mapping("metrics"), f"{path}, metrics"),
        lambda: top.optional("model", top.text),
        lambda: top.optional("realism", top.mapping),
    )
    expected = fingerprints[str(task)]
    if model not in (None, expected):
        wanted = f"{expected}, the {TITLES[str(task)]} to publish: run vqdist evaluate again"
        raise DataError.of(f"{path}, model", model, wanted)
    copies = None if realism is None else _read_copies(realism, f"{path}, realism")
    return EvaluationReport(str(task), split, samples, subjects, metrics, model, copies)


def _read_figures(metrics: Mapping[str, Any], where: str) -> dict[str, Figure]:
    fields = {name: Fields(value, f"{where}.{name}") for name, value in metrics.items()}
    return {
        name: Figure(*(_read_number(summary, key) for key in ("mean", "low", "high")))
        for name, summary in fields.items()
    }


def _read_number(fields: Fields, key: str) -> float | None:
    return fields.optional(key, fields.number)


def _read_copies(realism: Mapping[str, Any], where: str) -> CopyCount:
    copies = Fields(Fields(realism, where).mapping("copies"), f"{where}.copies")
    samples, real = (Fields(copies.mapping(name), f"{where}.copies.{name}") for name in ("samples", "test"))
    return CopyCount(
        samples.integer("near_copies"),
        samples.integer("slices"),
        real.integer("near_copies"),
        real.integer("slices"),
        *(_read_number(found, "largest") for found in (samples, real)),
    )
