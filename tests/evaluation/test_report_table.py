"""The report as a table for the terminal."""

from vqdist.evaluation.report_table import describe_report
from vqdist.foundation.figure_text import format_figure


def test_numbers_have_four_digits() -> None:
    assert [format_figure(value) for value in (None, 0.33425621, 16384, 22.0)] == ["none", "0.3343", "16,384", "22"]


def test_table_of_a_split() -> None:
    metrics = {
        "ssim": {"mean": 0.91234, "low": 0.9, "high": 0.95},
        "codes_used": {"mean": 7, "low": None, "high": None},
    }
    report = {"split": "test", "samples": 9, "subjects": 1, "metrics": metrics, "figures": ["out/a.png", "out/b.png"]}
    assert describe_report(report).splitlines() == [
        "test: 9 samples of 1 subject; mean, 95 % interval over subjects",
        "  ssim         0.9123  0.9 to 0.95",
        "  codes_used        7",
        "look at the figures in out",
    ]


def test_metrics_inside_the_brain_are_shown_for_brains_only() -> None:
    metrics = {name: {"mean": 0.5, "low": None, "high": None} for name in ("ssim", "ssim_brain", "psnr", "psnr_brain")}
    report = {"split": "test", "samples": 9, "subjects": 2, "metrics": metrics}
    names = [line.split()[0] for line in describe_report(report).splitlines()[1:]]
    assert names == ["ssim", "ssim_brain", "psnr", "psnr_brain"]
    assert describe_report(report, shows_brains=False).splitlines()[1:] == ["  ssim      0.5", "  psnr      0.5"]
    assert report["metrics"].keys() == metrics.keys()


def test_table_of_samples() -> None:
    realism = {
        "samples": 64,
        "feature_distance": {"train_test": 0.146, "samples_test": 0.15912, "ratio": 1.1},
        "diversity": {"samples": 0.756, "train": 0.772, "test": None},
        "copies": {
            "test": {"near_copies": 0, "slices": 96, "median_over_test": 1.0},
            "samples": {"near_copies": 2, "slices": 64, "median_over_test": 1.15},
        },
        "grey_values": {"train_test": 0.01, "samples_test": None},
    }
    report = {"split": "validate", "samples": 96, "subjects": 3, "metrics": {}, "realism": realism}
    assert describe_report(report).splitlines()[1:] == [
        "64 samples beside real slices; distances are to validate, lower is closer",
        "  feature distance      0.1591  train 0.146",
        "  near copies                2  validate 0 of 96",
        "  nearest train slice     1.15  distance, in multiples of that of validate",
        "  MS-SSIM of pairs       0.756  train 0.772, validate none",
        "  grey value distance     none  train 0.01",
    ]


def test_table_of_pictures() -> None:
    report = {"task": "vqvae", "pictures": 2, "overview": "out/reconstructions.png", "metrics": {"mse": 0.25}}
    assert describe_report(report).splitlines() == [
        "2 pictures",
        "  mse     0.25",
        "look at out/reconstructions.png, and at each picture beside its original in out/pictures",
    ]
