"""GPUs of the ranks of a machine: their numbers, too few of them, and a torch that cannot use the driver."""

from pathlib import Path

import pytest
import torch

from vqdist.distributed import gpu_checks
from vqdist.distributed.gpu_checks import (
    driver_problems,
    find_gpu_number,
    gpu_count_problems,
    has_own_gpu,
    hides_gpus,
)
from vqdist.distributed.process_group import device_problems, launch_problems

VERSION = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  12.2.0\n"
)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a machine with a driver, where torch sees no GPU."""
    folder = tmp_path / "nvidia"
    folder.mkdir()
    (folder / "version").write_text(VERSION)
    monkeypatch.setattr(gpu_checks, "NVIDIA_DRIVER", folder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "__version__", "2.14.1+cu130")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    return folder


@pytest.mark.parametrize(
    ("visible", "number", "hidden"),
    [
        (None, 3, False),
        ("0,1,2,3", 3, False),
        ("5", 0, False),
        ("MIG-4a-1", 0, False),
        ("GPU-8d7c", 0, False),
        ("MIG-1,MIG-2", 3, False),
        ("", 3, True),
        ("-1", 3, True),
    ],
)
def test_the_only_visible_gpu_is_device_0(visible: str | None, number: int, hidden: bool) -> None:
    environ = {"LOCAL_RANK": "3"} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert find_gpu_number(environ) == number
    assert hides_gpus(environ) == hidden
    assert has_own_gpu(environ) == (number == 0)


@pytest.mark.parametrize(
    ("environ", "ranks"),
    [
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, None),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}, "4 ranks"),
        ({"LOCAL_RANK": "2"}, "3 ranks"),
        ({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "CUDA_VISIBLE_DEVICES": "MIG-4a-1"}, None),
        ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "four"}, None),
        ({"LOCAL_RANK": "3", "WORLD_SIZE": "1"}, None),
    ],
)
def test_more_ranks_than_gpus(environ: dict[str, str], ranks: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    environ = {"WORLD_SIZE": "8"} | environ
    assert device_problems("cpu", environ) == []
    problems = [str(problem) for problem in gpu_count_problems(environ)]
    assert problems == [str(problem) for problem in device_problems("auto", environ)]
    found = f"LOCAL_WORLD_SIZE: found {ranks} on this machine, and 2 GPUs that torch can use; expected at most one rank"
    assert [problem.startswith(found) for problem in problems] == [True] * (ranks is not None)


def test_a_torch_that_does_not_fit_the_driver(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = device_problems("auto", {})
    assert str(problem).startswith(
        "run.device: found auto, and torch 2.14.1+cu130 (built for CUDA 13.0) sees no GPU, though NVIDIA driver "
        "535.104.05 is loaded; expected a build of torch for this driver"
    )
    assert "--run.device cpu" in str(problem)
    assert [str(found).split(",")[0] for found in device_problems("cuda", {})] == ["run.device: found cuda"]
    for device, environ in (
        ("cpu", {}),
        ("auto", {"ACCELERATE_USE_CPU": "true"}),
        ("auto", {"CUDA_VISIBLE_DEVICES": ""}),
        ("auto", {"CUDA_VISIBLE_DEVICES": "-1"}),
    ):
        assert device_problems(device, environ) == []
    two = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    assert launch_problems("auto", two) == [], "ACCELERATE_USE_CPU is not the way out"
    assert len(device_problems("auto", two)) == 1

    monkeypatch.setattr(torch.version, "cuda", None)
    assert "(built without CUDA)" in str(driver_problems("auto")[0])
    (driver / "version").unlink()
    assert "NVIDIA driver (unknown version)" in str(driver_problems("auto")[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert driver_problems("auto") == []


def test_a_machine_without_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert driver_problems("auto", tmp_path / "nothing") == []
