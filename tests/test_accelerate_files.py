"""The files of launch/accelerate: Accelerate reads each as documented, and those for a CPU start that many ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType

FOLDER = Path(__file__).parents[1] / "launch/accelerate"
MANY, ONE = DistributedType.MULTI_GPU, DistributedType.NO


@pytest.mark.parametrize(
    ("name", "kind", "machines", "processes"),
    [
        ("cpu", ONE, 1, 1),
        ("cpu_ranks", MANY, 1, 2),
        ("mps", ONE, 1, 1),
        ("gpu", ONE, 1, 1),
        ("node", MANY, 1, 8),
        ("nodes", MANY, 2, 16),
    ],
)
def test_accelerate_reads_the_file(name: str, kind: DistributedType, machines: int, processes: int) -> None:
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type == kind
    assert (config.num_machines, config.num_processes) == (machines, processes)
    assert config.mixed_precision == "no"
    assert config.use_cpu is name.startswith("cpu")


def test_every_file_is_covered() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {"cpu", "cpu_ranks", "mps", "gpu", "node", "nodes"}


@pytest.mark.ranks
@pytest.mark.parametrize(("name", "ranks"), [("cpu", 1), ("cpu_ranks", 2)])
def test_the_number_of_ranks_is_as_documented(name: str, ranks: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FOLDER / f"{name}.yaml")]
    command += ["--main_process_port", "0"] if ranks > 1 else []
    command += ["-m", "vqdist.doctor", "--run.dir", str(tmp_path), "--tracking.mode", "disabled"]
    environment = {key: value for key, value in os.environ.items() if key != "ACCELERATE_USE_CPU"}
    environment["OMP_NUM_THREADS"] = "1"
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["figures"]["ranks"] == ranks
