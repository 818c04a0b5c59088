"""launch/results_table.py on synthetic reports, some with missing numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "launch/results_table.py"
IMAGES = {"ssim": 0.9, "ssim_brain": 0.8, "psnr": 25.0, "codes_used": 512, "perplexity": 40.0, "bits_per_pixel": 0.141}
CODES = {"bits_per_code": 2.5, "position_bits_per_code": 3.5, "unigram_bits_per_code": 5.0, "uniform_bits_per_code": 9}


def measured(figures: dict[str, float]) -> dict[str, Any]:
    return {name: {"mean": value, "low": None, "high": None} for name, value in figures.items()}


def write_results(out: Path) -> None:
    """Write the runs and reports that launch/results.sh produces."""
    realism = {
        "samples": 256,
        "feature_distance": {"ratio": None},
        "copies": {name: {"near_copies": 0, "median_over_test": None} for name in ("samples", "test")},
        "diversity": {"samples": 0.1, "train": 0.2, "test": None},
        "anatomy_by_slice": {"means": [{"group": "test", "slice": 5, "brain_area": 0.25, "ventricle_area": 0.125}]},
    }
    peer = {"case": "run, test: ssim", "ours": 0.9, "peer": "MONAI", "theirs": 0.5, "ratio": 5.0}
    reports: dict[str, Any] = {name: {"split": "test", "metrics": measured(IMAGES)} for name in ("vqvae_oasis", "fine")}
    reports["codes-64"] = {"split": "test", "metrics": measured(IMAGES | {"ssim": 0.875})}
    reports["seed-0"] = {"split": "validate", "metrics": measured(IMAGES | {"ssim": 0.75})}
    for name in ("pixelcnn_oasis", "codes-64-prior", "prior-adam"):
        reports[name] = {"split": "test", "metrics": measured(CODES | {"bits_per_pixel": 0.04})}
    reports |= {name: {"realism": realism} for name in ("samples", "samples-slice-5", "samples-slice-25")}
    reports |= {"peers": {"results": [peer]}}
    (out / "reports").mkdir(parents=True)
    for name, report in reports.items():
        (out / "reports" / f"{name}.json").write_text(json.dumps(report))
        (out / name).mkdir()
        (out / name / "metrics.jsonl").write_text('{"step": 2500, "split": "train", "perf": {"seconds": 90.0}}\n')


def test_every_report_has_a_row(tmp_path: Path) -> None:
    write_results(tmp_path / "out")
    shown = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "out"], check=True, capture_output=True, text=True
    ).stdout
    for line in (
        "| `vqvae_oasis`, 2,500 steps, 1.5 min | ssim | 0.900 |",
        "| | fewer than per position | 28.6% |",
        "| feature distance samples to test, over train to test | – |",
        "| MS-SSIM between pairs | samples 0.100; train 0.200; test – |",
        "| brain_area at slice 5 | test 0.250 |",
        "| `codes-64` | 0.875 | 0.800 | 0.141 | 512 | 2.50, 3.50 | 2,500 steps, 1.5 min |",
        "| `prior-adam` | 2.500 | 2,500 steps, 1.5 min |",
        "| `seed-0` | 512 | 40.0 | 0.750 | 2,500 steps, 1.5 min |",
        "| run, test: ssim | 0.900 | MONAI | 0.500 | 5.00 |",
    ):
        assert line in shown.splitlines(), shown
    assert shown.count("`seed-0`") == 1
