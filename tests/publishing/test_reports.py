"""Reports of `vqdist evaluate` that the card of a published model shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from publishing_support import REPORT

from vqdist.foundation.errors import UserError
from vqdist.publishing.reports import CopyCount, Figure, read_report

FINGERPRINTS = {"pixelcnn": "p" * 64, "vqvae": "v" * 64}


def write(path: Path, **changes: Any) -> Path:
    """Write a report that differs in some keys; None removes a key."""
    values = {key: value for key, value in (REPORT | changes).items() if value is not None}
    path.write_text(json.dumps(values))
    return path


def test_a_report_is_read(tmp_path: Path) -> None:
    report = read_report(write(tmp_path / "r.json"), FINGERPRINTS)
    assert (report.task, report.split, report.samples, report.subjects) == ("pixelcnn", "test", 96, 3)
    assert report.metrics["bits_per_code"] == Figure(2.32, 2.26, 2.38)
    assert report.metrics["uniform_bits_per_code"] == Figure(9.0, None, None)
    assert report.copies == CopyCount(samples=1, samples_of=256, real=0, real_of=96, largest=0.875, real_largest=0.75)


def test_a_report_of_an_earlier_version_names_no_model(tmp_path: Path) -> None:
    report = read_report(write(tmp_path / "r.json", model=None, realism=None), FINGERPRINTS)
    assert (report.model, report.copies) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "x"}, "r.json, model: found x; expected pppp"),
        ({"task": "vqvae"}, "r.json, model: found pppp"),
        ({"task": "other"}, "r.json, task: found 'other'; expected pixelcnn or vqvae"),
        ({"metrics": {"ssim": {"mean": "high"}}}, "metrics.ssim, mean: found 'high'; expected a finite number"),
        ({"samples": -1}, "r.json, samples: found -1"),
        ({"realism": {"copies": {}}}, "realism.copies, samples: found null"),
    ],
)
def test_a_report_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        read_report(write(tmp_path / "r.json", **changes), FINGERPRINTS)
    assert message in str(error.value)
