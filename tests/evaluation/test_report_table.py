"""The report as a table for the terminal."""

from vqdist.evaluation.report_table import describe_report, format_figure


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


def test_table_of_pictures() -> None:
    report = {"task": "vqvae", "pictures": 2, "overview": "out/reconstructions.png", "metrics": {"mse": 0.25}}
    assert describe_report(report).splitlines() == [
        "2 pictures",
        "  mse     0.25",
        "look at out/reconstructions.png, and at each picture beside its original in out/pictures",
    ]
