"""torch.compile: a compiled run has the metrics of an eager one, on several ranks and after a resume too.

The long version, `pytest -m long tests/training/test_compile.py`, runs both tasks on two ranks throughout.
"""

import os
import shutil
from pathlib import Path

import pytest
import torch
from support import QUIET, read_metrics, run_command_main, start, tiny_flags, train, write_code_set, write_image_set
from support.datasets import Slices

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler"),
]
WAIT_S = 800
# On one and on two ranks, each micro-batch has 3 samples: another size would be compiled separately.
SLICES = Slices({"train": range(8), "validate": range(8, 10)}, (4, 12, 20), "s{:02d}-{:02d}", 7)
SHAPES = ("--data.global_batch_size", 6, "--data.micro_batch_size", 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a dataset for each task: 24 samples in train, 6 in validate."""
    folder = tmp_path_factory.mktemp("compile")
    images = write_image_set(folder / "images", slices=SLICES)
    return {"vqvae": images, "pixelcnn": write_code_set(folder / "codes", slices=SLICES)}


def run_flags(task: str, data: dict[str, Path], tmp_path: Path) -> list[str]:
    """Return the flags of a run of 8 steps."""
    flags = [*tiny_flags(task), "--data.path", data[task], "--run.dir", tmp_path, "--train.max_steps", 8]
    return [str(word) for word in (*flags, *SHAPES)]


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
def test_compiled_run_is_the_eager_one(task: str, last_ranks: int, data: dict[str, Path], tmp_path: Path) -> None:
    flags = run_flags(task, data, tmp_path)
    train(*flags, "--run.name", "eager")
    compiled = [*flags, "--run.name", "compiled", "--train.compile", "true"]
    stopped = train(*compiled, "--train.stop_at_step", 4, ranks=2, check=False, timeout_s=WAIT_S)
    assert stopped.code == 75, stopped.describe()
    train(*compiled, ranks=last_ranks, timeout_s=WAIT_S)
    check_same_metrics(tmp_path / "compiled", tmp_path / "eager")


def train_without_code_generation(words: list[str]) -> int:
    """Train with the backend that traces forward and backward but does not compile them."""
    compile_module = torch.nn.Module.compile
    torch.nn.Module.compile = lambda module, **options: compile_module(module, backend="aot_eager", **options)
    return run_command_main("train", words)


def test_traced_pixelcnn_is_the_eager_one(data: dict[str, Path], tmp_path: Path) -> None:
    flags = run_flags("pixelcnn", data, tmp_path)
    train(*flags, "--run.name", "eager")
    words = [*QUIET, *flags, "--run.name", "traced", "--train.compile", "true"]
    with start(train_without_code_generation, words) as started:
        assert started.wait(WAIT_S).code == 0
    check_same_metrics(tmp_path / "traced", tmp_path / "eager")
