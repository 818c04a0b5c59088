"""The report as a table for the terminal."""

from pathlib import Path

from vqdist.evaluation.report_table import MEANING, describe_report


def test_table_of_a_split() -> None:
    metrics = {
        "ssim": {"mean": 0.91234, "low": 0.9, "high": 0.95},
        "codes_used": {"mean": 7, "low": None, "high": None},
    }
    report = {"split": "test", "samples": 9, "subjects": 1, "metrics": metrics, "figures": ["out/a.png", "out/b.png"]}
    assert describe_report(report).splitlines() == [
        "test: 9 samples of 1 subject; mean (no interval below 3 subjects)",
        "  ssim         0.9123  0.9 to 0.95",
        "  codes_used        7",
        MEANING,
        "look at the figures in out",
    ]


def test_metrics_inside_the_brain_are_shown_for_brains_only() -> None:
    metrics = {name: {"mean": 0.5, "low": None, "high": None} for name in ("ssim", "ssim_brain", "psnr", "psnr_brain")}
    report = {"split": "test", "samples": 9, "subjects": 2, "metrics": metrics}
    names = [line.split()[0] for line in describe_report(report).splitlines()[1:-1]]
    assert names == ["ssim", "ssim_brain", "psnr", "psnr_brain"]
    assert describe_report(report, shows_brains=False).splitlines()[1:-1] == ["  ssim      0.5", "  psnr      0.5"]
    assert report["metrics"].keys() == metrics.keys()


def test_differences_of_two_runs_are_rows() -> None:
    differences = {name: {"mean": 0.01, "low": 0.005, "high": 0.015} for name in ("ssim", "ssim_brain")}
    report = {"split": "validate", "samples": 9, "subjects": 3, "metrics": {}, "differences": {"other": differences}}
    assert describe_report(report, shows_brains=False).splitlines()[1:] == [
        "this run minus other, on the same slices; mean, 95 % interval over subjects",
        "  ssim  0.01  0.005 to 0.015",
        MEANING,
    ]


def test_table_of_pictures() -> None:
    report = {"task": "vqvae", "pictures": 2, "overview": "out/reconstructions.png", "metrics": {"mse": 0.25}}
    assert describe_report(report).splitlines() == [
        "2 pictures",
        "  mse     0.25",
        MEANING,
        "look at out/reconstructions.png, and at each picture beside its original in out/pictures",
    ]


def test_the_reason_for_missing_figures_is_given_once_below_the_table() -> None:
    none = {"mean": None, "low": None, "high": None}
    report = {"split": "test", "samples": 9, "subjects": 1, "metrics": {"ssim_brain": none, "psnr_brain": none}}
    *rows, reason, meaning, look = describe_report(report | {"figures": ["out/a.png"]}).splitlines()
    assert [row.split()[-1] for row in rows[1:]] == ["none", "none"]
    assert reason.startswith("none: too few subjects or slices")
    assert meaning == MEANING
    assert look.startswith("look at")
    assert "none:" not in describe_report(report | {"metrics": {"ssim": none | {"mean": 0.5}}})


def test_the_report_of_either_model_points_to_an_explanation_of_its_metrics() -> None:
    document = (Path(__file__).parents[2] / "launch/README.md").read_text()
    assert MEANING.endswith("launch/README.md#metrics")
    section = document.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    for name in ("ssim", "bits_per_code"):
        report = {
            "split": "test",
            "samples": 9,
            "subjects": 1,
            "metrics": {name: {"mean": 1, "low": None, "high": None}},
        }
        assert MEANING in describe_report(report).splitlines()
        assert f"`{name}`" in section
