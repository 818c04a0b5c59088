"""launch/gpu_check.sh with tiny sizes on the CPU, without the packages that it must not need."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "launch/gpu_check.sh"
NOT_NEEDED = ("wandb", "webdataset", "nibabel", "fsspec", "matplotlib", "torchvision", "monai")
HIDE = f"""
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {NOT_NEEDED} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


def check(*words: object, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    folders = [str(folder) for folder in (path, os.environ.get("PYTHONPATH")) if folder]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(folders)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = ["bash", str(SCRIPT), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.timeout(1800)
def test_every_part_runs_on_the_cpu(tmp_path: Path) -> None:
    small, out = ("--small", "true"), tmp_path / "out"
    prepared = check("--prepare", tmp_path / "data", *small)
    assert prepared.returncode == 0, prepared.stderr
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide/sitecustomize.py").write_text(HIDE)
    words = ("--device", "cpu", "--data", tmp_path / "data", "--out", out, *small)
    done = check(*words, path=tmp_path / "hide")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((out / "table.json").read_text())
    found = {row["check"]: row for row in result["checks"]}
    for stage in ("vqvae", "pixelcnn"):
        assert found[f"{stage}: stopped and resumed"]["found"] == "same bits"
        assert found[f"{stage}, deterministic: loss after 6 steps"]["found"].endswith("0.0e+00 apart")
    assert found["muon-bf16: loss"]["passed"]
    assert found["codes that are not the nearest, in fp32"]["passed"]
    assert found["codes that a graph samples differently"]["passed"]
    parts = ("batch 4, cache memory", "step of 16 samples", "4 maps of 8 x 8", "quantizer: ", "step: ")
    assert all(any(part in name for name in found) for part in parts), found.keys()
    table = (out / "table.md").read_text().splitlines()
    assert len(table) == 2 + len(result["checks"])
    assert all(row.count("|") == 5 for row in table)


def test_a_part_that_fails_is_a_failed_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("checks", ROOT / "launch/gpu_check/checks.py")
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)

    def read_a_table(checker: object) -> None:
        raise ValueError("no | table")

    checker = checks.Checker("cuda", tmp_path, tmp_path, small=False)
    checker.run_part(read_a_table)
    checker.add("speed", "3 ms")
    checker.started_s -= 1000
    checker.run_part(read_a_table)
    assert [row.passed for row in checker.checks] == [False, None, False]
    assert capsys.readouterr().err.splitlines() == [
        "| read a table | ValueError: no / table | no error | **no** |",
        "| speed | 3 ms |  |  |",
        "| read a table | left out after 1000 s |  | **no** |",
    ]
