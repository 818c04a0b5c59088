"""Checks of this machine: versions, threads, precision, memory, signals."""

import signal
from importlib import metadata

import pytest
import torch

from vqdist.diagnosis import machine
from vqdist.diagnosis.machine import check_devices, check_machine, check_memory, check_signals, check_versions


def test_this_machine_can_run() -> None:
    checks = check_machine("fp32", "cpu")
    assert [check.name for check in checks] == ["versions", "devices", "precision", "memory", "signals"]
    assert "fix" not in {check.state for check in checks}
    assert checks[0].found.startswith("python 3.")


def test_missing_and_old_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["numpy>=1", "torch>=999", "no-such-package", "no-extra>=1; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda name: requirements)
    check = check_versions()
    assert check.state == "fix"
    assert check.found == f"torch>=999: {metadata.version('torch')}; no-such-package: not installed"


def test_more_threads_than_cores_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "count_cores", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    single = check_devices("cpu", {})
    assert (single.state, single.found) == ("ok", "CPU, 4 cores; 1 rank on this node, 3 threads each")
    check = check_devices("cpu", {"LOCAL_WORLD_SIZE": "2"})
    assert (check.state, check.fix.split(":")[0]) == ("note", "set OMP_NUM_THREADS=2")
    assert check.found == "CPU, 4 cores; 2 ranks on this node, 3 threads each"


@pytest.mark.parametrize(
    ("local_ranks", "visible", "state"),
    [("2", "0,1", "ok"), ("1", "0,1", "note"), ("4", "0", "ok")],
)
def test_one_rank_per_gpu(monkeypatch: pytest.MonkeyPatch, local_ranks: str, visible: str, state: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1 + visible.count(","))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "H100")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (70 * 2**30, 80 * 2**30))
    check = check_devices("cuda", {"LOCAL_WORLD_SIZE": local_ranks, "CUDA_VISIBLE_DEVICES": visible})
    assert check.state == state
    assert "x H100, 70 of 80 GiB free" in check.found


def test_memory_is_divided_among_local_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 6 * 2**30)
    check = check_memory({"LOCAL_WORLD_SIZE": "2"})
    assert (check.state, check.figures) == ("ok", {"free_memory_bytes": 6 * 2**30})
    assert check.found.startswith("6.0 GiB free, 3.0 for each rank")
    assert check_memory({"LOCAL_WORLD_SIZE": "4"}).state == "note"
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: None)
    assert check_memory({}).state == "note"


def test_signals_arrive() -> None:
    check = check_signals()
    assert check.state == "ok"
    assert check.figures["signal_s"] > 0


def test_blocked_signals_are_found() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        check = check_signals()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    assert (check.state, check.found) == ("fix", "blocked: SIGUSR1")
