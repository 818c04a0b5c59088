"""Results and medians of benchmarks."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vqdist.benchmarks import measure
from vqdist.benchmarks.measure import Bench, Result, build_installed, child_environment, compare, describe_machine
from vqdist.foundation import progress

CPU = torch.device("cpu")


def test_ratio_is_above_one_if_ours_is_better() -> None:
    faster, slower = (compare("p", "c", "ms", ours, {"x": 10.0})[0] for ours in (5.0, 20.0))
    assert (faster.ratio, slower.ratio) == (2.0, 0.5)
    assert compare("p", "c", "samples/s", 20.0, {"x": 10.0})[0].ratio == 2.0
    assert Result("p", "c", 1.0, "s").ratio is None


def test_ratio_of_ssim_compares_distances_to_one() -> None:
    assert compare("p", "c", "SSIM", 0.9, {"x": 0.6})[0].ratio == pytest.approx(4)


def test_json_of_a_result() -> None:
    assert [result.to_json() for result in compare("p", "c", "dB", 2.0, {"x": 1.0, "y": 4.0})] == [
        {"part": "p", "case": "c", "ours": 2.0, "unit": "dB", "peer": "x", "theirs": 1.0, "ratio": 2.0},
        {"part": "p", "case": "c", "ours": 2.0, "unit": "dB", "peer": "y", "theirs": 4.0, "ratio": 0.5},
    ]


def test_measures_take_turns_and_the_median_counts() -> None:
    calls: list[str] = []

    def measure_of(name: str, values: list[float]) -> Callable[[], float]:
        return lambda: (calls.append(name), values.pop(0))[1]

    measures = {"ours": measure_of("ours", [9.0, 1.0, 2.0]), "peer": measure_of("peer", [3.0, 3.0, 50.0])}
    assert Bench(CPU, repeats=3).measure_in_turn(measures) == {"ours": 2.0, "peer": 3.0}
    assert calls == ["ours", "peer"] * 3


def test_times_exclude_warmups(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])
    durations_s = iter([100.0, 100.0, 3.0, 1.0, 2.0])

    def work() -> None:
        clock[0] += next(durations_s)

    assert Bench(CPU, repeats=3).time_in_turn({"ours": work}, warmups=2) == {"ours": 2.0}


def test_long_measurements_show_their_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.0)
    monkeypatch.setattr(progress, "NEXT_LINE_S", 0.0)
    Bench(CPU, repeats=2).time_in_turn({"ours": lambda: None, "peer": lambda: None}, warmups=1)
    lines = [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == [*(f"warm-up: {n} of 2 calls" for n in (1, 2)), *(f"measure: {n} of 4 calls" for n in range(1, 5))]


def test_peers_that_are_not_installed_are_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ImportError("No module named 'monai'")

    assert build_installed("step", "batch 4", {"MONAI": fail, "ours": lambda: 1}) == {"ours": 1}
    printed = capsys.readouterr().err
    assert printed == ("bench: step, batch 4: MONAI: skipped: No module named 'monai'; pip install vqdist[bench]\n")


def test_machine_is_described() -> None:
    machine = describe_machine(CPU)
    assert machine["cores"] >= 1
    assert machine["cpu"]
    assert machine["gpu"] is None
    assert machine["versions"]["torch"] == torch.__version__.split("+")[0]


def test_child_process_imports_from_the_same_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("VALUE = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "import only_here; print(only_here.VALUE)"
    command = [sys.executable, "-S", "-c", code]
    assert subprocess.run(command, env=child_environment(), capture_output=True, text=True).stdout == "5\n"
