"""torch.compile on two ranks: stopped and taken up again, a run has the numbers of one that is not compiled."""

import os
import shutil
from pathlib import Path

import pytest
from support import read_metrics, tiny_flags, train

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler"),
]


@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_compiled_run_is_the_eager_one(task: str, image_set: Path, code_set: Path, tmp_path: Path) -> None:
    data = {"vqvae": image_set, "pixelcnn": code_set}[task]
    flags = [*tiny_flags(task), "--data.path", data, "--run.dir", tmp_path, "--train.max_steps", 8]
    train(*flags, "--run.name", "eager")
    compiled = [*flags, "--run.name", "compiled", "--train.compile", "true"]
    stopped = train(*compiled, "--train.stop_at_step", 4, ranks=2, check=False, timeout_s=300)
    assert stopped.code == 75, stopped.describe()
    train(*compiled, ranks=2, timeout_s=300)
    lines, expected = read_metrics(tmp_path / "compiled"), read_metrics(tmp_path / "eager")
    assert len(lines) == len(expected)
    for line, like in zip(lines, expected, strict=True):
        assert line.pop("split") == like.pop("split")
        assert line == pytest.approx(like, rel=1e-4, abs=1e-6)
