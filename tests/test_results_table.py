"""launch/results_table.py on synthetic reports, some with missing numbers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[1] / "launch/results_table.py"
IMAGES = {
    **{"ssim": 0.9, "ssim_brain": 0.8, "psnr": 25.0, "codes_used": 512, "perplexity": 40.0, "perplexity_brain": 200.0},
    "bits_per_pixel": 0.141,
}
CODES = {
    **{"bits_per_code": 2.5, "bits_below_mixture": 0.5, "mixture_bits_per_code": 3.0, "uniform_bits_per_code": 9},
    **{"position_slice_bits_per_code": 3.2, "position_bits_per_code": 3.5, "unigram_bits_per_code": 5.0},
    **{"bits_per_pixel": 0.04, "membership_auc": 0.5},
}


def measured(figures: dict[str, float], half: float | None = None) -> dict[str, Any]:
    ends = {name: (None, None) if half is None else (value - half, value + half) for name, value in figures.items()}
    return {name: {"mean": value, "low": ends[name][0], "high": ends[name][1]} for name, value in figures.items()}


def build_realism() -> dict[str, Any]:
    figures = ("brain_area", "ventricle_area")
    groups = {"samples": 0.2, "train": 0.3, "test": 0.25, "difference": -0.1}
    fit = {"samples": {"correlation": 0.5}, "test": {"correlation": None}}
    return {
        "samples": 256,
        "feature_distance": measured({"train_test": 0.015, "samples_test": 0.04, "samples_train": 0.02}, 0.01),
        "coverage": {
            name: {**measured({"coverage": 0.75, "density": 1.5}), "subjects": 12.0} for name in ("samples", "train")
        },
        "copies": {
            "limits": {"whole": 0.9},
            "calibration": {"train_slices": 12, "kinds": {"gamma 0.7": {"found": 11, "copies": 12}}},
            **{name: {"near_copies": 0, "largest": 0.8} for name in ("samples", "test")},
        },
        "same_person_pairs": {"samples": {"mean": 0.1, "low": 0.05, "high": 0.2}, "train": 0.05},
        "diversity": {"samples": 0.1, "train": 0.2, "test": None},
        "slice_figures": {"meanings": dict.fromkeys(figures, ""), **{name: measured(groups, 0.05) for name in figures}},
        "anatomy_by_slice": {
            "means": [{"group": "test", "slice": 5, "brain_area": 0.25, "ventricle_area": 0.125}],
            **dict.fromkeys(figures, fit),
        },
    }


def build_volumes_report() -> dict[str, Any]:
    figures = {"bits_per_code": 1.5, "neighbour_bits_per_code": 1.8, "bits_per_pixel": 0.025, "membership_auc": 0.5}
    volumes = {
        "neighbours": {
            name: {"volumes": 3, "ssim": {"mean": mean, "spread": 0.004}}
            for name, mean in (("samples", 0.95), ("test", 0.96))
        },
        "drift": {"samples": {"ratio": 0.7}},
        "copies": {"samples": {"near_copies": 0, "volumes": 16}, "test": {"near_copies": None, "volumes": 3}},
    }
    return {"metrics": measured(figures), "realism": {"volumes": volumes}}


def build_lesions_report() -> dict[str, Any]:
    figures = {"pixel_ap": 0.25, "pixel_auroc": 0.75, "best_dice": 0.5, "image_auroc": None}
    of_kind = {"ring": {"pixel_ap": 0.625, "baselines": {"bits": {"pixel_ap": 0.125}}}}
    intervals = dict.fromkeys(figures) | {"pixel_ap": {"low": 0.2, "high": 0.3}}
    metrics = {
        **figures,
        "baselines": {"bits": figures},
        "per_kind": of_kind,
        "intervals": intervals,
        "lesion_slices": 96,
    }
    return {"metrics": metrics, "samples": 192, "flagged": 40}


def write_results(out: Path) -> None:
    """Write the runs and reports that launch/results.sh produces."""
    peer = {"case": "run, test: ssim", "ours": 0.9, "peer": "MONAI", "theirs": 0.5, "ratio": 5.0}
    counts = {"split": "test", "samples": 96, "subjects": 3}
    reports: dict[str, Any] = {
        f"vqvae-{seed}": {**counts, "metrics": measured(IMAGES | {"ssim": 0.9 + 0.01 * seed})} for seed in range(3)
    }
    reports |= {
        f"prior-{seed}": {**counts, "metrics": measured(CODES), "realism": build_realism()} for seed in range(3)
    }
    reports["volumes-prior"] = build_volumes_report()
    reports["lesions"] = build_lesions_report()
    reports |= {f"samples-slice-{number}": {"realism": build_realism()} for number in (5, 25)}
    reports |= {name: {"metrics": measured(IMAGES)} for name in ("unchanged", "fine")}
    reports["changes"] = {"beside": {"fine": {}}, "differences": {"fine": measured({"ssim_brain": -0.08}, 0.01)}}
    reports["peers"] = {"results": [peer]}
    (out / "reports").mkdir(parents=True)
    completion = {"slices": 8, "ssim": {"draws": {"median": 0.4, "error": 0.02, "best": 0.5}}}
    (out / "completion").mkdir()
    (out / "completion" / "completion.json").write_text(json.dumps(completion))
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
        "| `vqvae`, 96 slices of 3 people | vqvae-0 | vqvae-1 | vqvae-2 | mean, sd |",
        "| ssim | 0.9000 | 0.9100 | 0.9200 | 0.9100, 0.0100 |",
        "| training | 2,500 steps, 1.5 min | 2,500 steps, 1.5 min | 2,500 steps, 1.5 min | |",
        "| bits_below_mixture | 0.5000 | 0.5000 | 0.5000 | 0.5000, 0.0000 |",
        "| feature distance to test | 0.040 (0.030 to 0.050) | 0.040 (0.030 to 0.050) | 0.040 (0.030 to 0.050) "
        "| train 0.015 (0.005 to 0.025) |",
        "| near copies | 0 | 0 | 0 | test 0 |",
        "| MS-SSIM between pairs | 0.100 | 0.100 | 0.100 | train 0.200; test – |",
        "| brain_area | 5 | – | – | 0.250 |",
        "| gamma 0.7 | 11 of 12 |",
        "| `unchanged` | 0.900 | 0.800 |  | 0.141 | 512 | 2,500 steps, 1.5 min |",
        "| `fine` | 0.900 | 0.800 | 0.080 (0.070 to 0.090) | 0.141 | 512 | 2,500 steps, 1.5 min |",
        "| prior that reads the previous slice, 16 volumes | sampled | real |",
        "| ssim of neighbouring slices | 0.950, spread 0.004 | 0.960, spread 0.004 |",
        "| near copies | 0 | – |",
        "| map | 0.250 | 0.750 | 0.500 | – | 0.625 |",
        "| bits | 0.250 | 0.750 | 0.500 | – | 0.125 |",
        "| interval of map | 0.20 to 0.30 | – | – | – |  |",
        "40 of 192 slices are flagged.",
        "| draws | 0.400 | 0.020 | 0.500 |",
        "| run, test: ssim | 0.900 | MONAI | 0.500 |",
    ):
        assert line in shown.splitlines(), shown
