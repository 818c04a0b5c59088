"""Training curves show the lines of metrics.jsonl: pixels of the PNG files are inspected."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from vqdist.plotting.training_curves import draw_training_curves


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_curves_stop_at_an_incomplete_line(tmp_path: Path) -> None:
    lines = [{"step": step, "split": "train", "loss": 1 / step} for step in (1, 2, 3)]
    lines += [{"step": 3, "split": "validate", "loss": 0.4, "ssim": 0.9, "bits_per_code": None}]
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    whole.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cut.write_text(whole.read_text() + '{"step": 4, "spl')
    figure = read(draw_training_curves(whole, tmp_path / "new" / "whole.png"))
    np.testing.assert_array_equal(figure, read(draw_training_curves(cut, tmp_path / "cut.png")))
    assert figure.shape[1] > 1.8 * figure.shape[0]  # one panel for the loss, one for SSIM
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["whole.png"]


def test_curves_of_a_run_without_lines_are_empty(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    empty = read(draw_training_curves(tmp_path / "metrics.jsonl", tmp_path / "losses.png"))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "validate", "loss": 0.5}\n')
    one_line = read(draw_training_curves(tmp_path / "metrics.jsonl", tmp_path / "losses.png"))
    red = [(abs(figure - np.array([0xD1, 0x49, 0x5B])).sum(axis=2) < 30).sum() for figure in (empty, one_line)]
    assert red[0] == 0 < red[1]
