"""torch.compile: a compiled run has the metrics of an eager one, on several ranks and after a resume too.

The long version, `pytest -m long tests/training/test_compile.py`, runs both tasks on two ranks throughout.
"""

import os
import shutil
from pathlib import Path

import pytest
import torch
from support import QUIET, read_metrics, run_command_main, start, tiny_flags, train

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler"),
]
WAIT_S = 800


def run_flags(task: str, image_set: Path, code_set: Path, tmp_path: Path) -> list[str]:
    """Return the flags of 8 steps with micro-batches of 4, which have the same shape on one and on two ranks."""
    data = {"vqvae": image_set, "pixelcnn": code_set}[task]
    flags = [*tiny_flags(task), "--data.path", data, "--run.dir", tmp_path, "--train.max_steps", 8]
    return [*map(str, flags), "--data.micro_batch_size", "4"]


def check_same_metrics(run: Path, other: Path) -> None:
    lines, others = read_metrics(run), read_metrics(other)
    assert len(lines) == len(others)
    for line, like in zip(lines, others, strict=True):
        assert line.pop("split") == like.pop("split")
        assert line == pytest.approx(like, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "last_ranks"),
    [
        ("vqvae", 1),
        pytest.param("vqvae", 2, marks=pytest.mark.long),
        pytest.param("pixelcnn", 2, marks=pytest.mark.long),
    ],
)
def test_compiled_run_is_the_eager_one(
    task: str, last_ranks: int, image_set: Path, code_set: Path, tmp_path: Path
) -> None:
    flags = run_flags(task, image_set, code_set, tmp_path)
    train(*flags, "--run.name", "eager")
    compiled = [*flags, "--run.name", "compiled", "--train.compile", "true"]
    stopped = train(*compiled, "--train.stop_at_step", 4, ranks=2, check=False, timeout_s=WAIT_S)
    assert stopped.code == 75, stopped.describe()
    train(*compiled, ranks=last_ranks, timeout_s=WAIT_S)
    check_same_metrics(tmp_path / "compiled", tmp_path / "eager")


def train_without_code_generation(words: list[str]) -> int:
    """Train with the backend that traces forward and backward but does not compile them."""
    compile_module = torch.nn.Module.compile
    torch.nn.Module.compile = lambda module: compile_module(module, backend="aot_eager")
    return run_command_main("train", words)


def test_traced_pixelcnn_is_the_eager_one(image_set: Path, code_set: Path, tmp_path: Path) -> None:
    flags = run_flags("pixelcnn", image_set, code_set, tmp_path)
    train(*flags, "--run.name", "eager")
    words = [*QUIET, *flags, "--run.name", "traced", "--train.compile", "true"]
    with start(train_without_code_generation, words) as started:
        assert started.wait(WAIT_S).code == 0
    check_same_metrics(tmp_path / "traced", tmp_path / "eager")
