"""Lines and wall time of a run's metrics.jsonl."""

from pathlib import Path

from vqdist.runs.metrics_file import read_metrics, training_seconds


def test_incomplete_line_is_ignored_and_wall_time_includes_validation(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = [
        {"step": 5, "split": "train", "perf": {"seconds": 2.5}},
        {"step": 5, "split": "validate", "perf": {"seconds": 0.5}},
    ]
    path.write_text("".join(f"{line}\n".replace("'", '"') for line in whole) + '{"step": 10, "perf": {"sec')
    assert read_metrics(path) == whole
    assert training_seconds(read_metrics(path)) == 3.0
    assert training_seconds([]) == 0.0
