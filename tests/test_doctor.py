"""The doctor: what it finds in a healthy machine, and how it names what must be mended."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import launch

from vqdist import doctor
from vqdist.config.loading import load_config
from vqdist.config.schema import dump_yaml
from vqdist.diagnosis.cluster_job import parse_time
from vqdist.diagnosis.machine import check_signals
from vqdist.diagnosis.report import Check, build_table, merge, of_problems, to_json
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import Problem
from vqdist.runs.run_dir import RunDir

SMALL = {"hidden": 8, "residual_hidden": 4, "downsample": 4, "code_dim": 4, "num_codes": 16}


@pytest.fixture
def config(tmp_path: Path, image_set: Path) -> Path:
    """A configuration of a run that is small enough to be tried."""
    values = {
        "run": {"dir": str(tmp_path / "runs")},
        "data": {"path": str(image_set), "global_batch_size": 6, "num_workers": 0},
        "model": SMALL,
        "tracking": {"mode": "disabled"},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def examine(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    code = doctor.main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def states(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in report["checks"]}


def test_one_process(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, table = examine(capsys, "--config", config, "--train.max_steps", 5000, "--run.device", "cpu")
    assert code == 0
    assert report["ready"] is True
    assert "mend" not in states(report).values()
    assert "estimate" in table
    figures = report["figures"]
    assert figures["wall_time_s"] == pytest.approx(5000 / figures["steps_per_s"])
    assert figures["read_samples_per_s"] > 0
    # Weights, and two moments of each, in four bytes.
    assert figures["checkpoint_bytes"] > 12 * 1000
    assert not (tmp_path / "runs").exists(), "the doctor leaves nothing behind"


def test_two_ranks(config: Path) -> None:
    result = launch("vqdist.doctor", "--config", config, ranks=2)
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.splitlines()
    report = json.loads(line)
    assert report["figures"]["ranks"] == 2
    assert report["figures"]["all_reduce_bytes_per_s"] > 0
    assert states(report)["shared files"] == "ok"


def test_a_rank_of_another_kind_takes_the_precision_of_rank_0(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqdist.training.build.choose_precision", lambda device: "bf16")
    monkeypatch.setattr(Ranks, "broadcast_object", lambda ranks, told: "fp32" if told == "bf16" else told)
    _, report, _ = examine(capsys, "--config", config, "--train.precision", "auto", "--run.device", "cpu")
    (found,) = [check["found"] for check in report["checks"] if check["name"] == "precision"]
    assert found == "fp32"


def test_preflight_takes_no_torch(config: Path) -> None:
    program = (
        "import sys\n"
        "from vqdist.doctor import main\n"
        "code = main(sys.argv[1:])\n"
        "sys.exit('torch was imported' if 'torch' in sys.modules else code)\n"
    )
    command = [sys.executable, "-c", program, "--preflight", "--config", str(config), "--run.name", "a"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert Path(report["run_dir"]).name == "a"
    assert set(states(report).values()) == {"ok"}


def test_every_problem_of_a_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--preflight", "--config", config, "--train.max_stps", 3, "--optim.lr", -1)
    code, report, table = examine(capsys, *words)
    assert code == 2
    assert report["ready"] is False
    assert len(report["checks"]) == 2
    assert "did you mean train.max_steps?" in table


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--run.name", "a b"), ("run.name",)),
        (("--config", "", "--optim.lr", "x"), ("--config", "optim.lr")),
        (("--task", "[vqvae]", "--run.name", ".."), ("task", "run.name")),
    ],
)
def test_words_that_name_no_run(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    code, report, _ = examine(capsys, *words)
    assert code == 2
    assert len(report["checks"]) == len(parts)
    assert all(check["found"].startswith(part) for check, part in zip(report["checks"], parts, strict=True))


def test_numbers_of_a_launcher_that_are_none(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "two")
    code, report, table = examine(capsys, "--config", config)
    assert (code, len(report["checks"])) == (2, 2)
    assert "SLURM_JOB_NUM_NODES: ''" in table
    assert "LOCAL_WORLD_SIZE: 'two'" in table


def test_shard_that_lost_its_end(
    config: Path, image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(image_set, tmp_path / "copy")
    shard = sorted(copy.glob("train/*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:-10])
    code, report, _ = examine(capsys, "--preflight", "--config", config, "--data.path", copy)
    assert code == 2
    (bad,) = [check for check in report["checks"] if check["state"] == "mend"]
    assert bad["name"] == "data"
    assert f"train/{shard.name}" in bad["found"]


def test_run_of_another_model(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs/small"
    run.mkdir(parents=True)
    saved = yaml.safe_load(config.read_text()) | {"task": "vqvae", "optim": {"decay_steps": 7}}
    saved["model"] = SMALL | {"hidden": 16}
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    code, report, _ = examine(capsys, "--preflight", "--config", config)
    assert code == 2
    assert "model.hidden" in str([check for check in report["checks"] if check["state"] == "mend"])


def test_run_directory_that_cannot_be_made(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = examine(capsys, "--preflight", "--config", config, "--run.dir", config)
    assert code == 2
    assert states(report)["file system"] == "mend"


def test_ranks_that_do_not_come(config: Path) -> None:
    world = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29917"}
    command = [sys.executable, "-m", "vqdist.doctor", "--config", str(config), "--run.timeout_s", "2"]
    environment = os.environ | world | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 2, result.stderr
    assert states(json.loads(result.stdout))["ranks"] == "mend"
    assert "did not meet" in result.stderr


def test_first_host_that_does_not_resolve(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "nowhere.invalid")
    code, report, table = examine(capsys, "--preflight", "--config", config)
    assert code == 2
    assert states(report)["meeting point"] == "mend"
    assert "nowhere.invalid" in table


def test_help_lists_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "--checkpoint.keep" in out
    lines = [line for line in out.splitlines() if line.startswith(("  --config", "  --verbose", "  --preflight"))]
    assert [line.partition(" (")[2] for line in lines] == [
        "path, default: null):",
        *["switch, default: false)"] * 2,
    ]


def test_signals_arrive_here() -> None:
    assert check_signals().state == "ok"


def test_worst_rank_counts() -> None:
    fine, bad = Check("memory", "ok", "much"), Check("memory", "note", "little", "more")
    (merged,) = merge([[fine], [bad], [bad]], ["one", "two", "three"])
    assert merged.state == "note"
    assert merged.found == "little (on 2 of 3 ranks, first two)"


def test_table_says_what_to_mend() -> None:
    checks = of_problems("data", [Problem("shard", "5 bytes", "6 bytes")], "")
    assert build_table(checks) == "data  mend  shard: 5 bytes\n            -> 6 bytes"
    assert to_json(checks)["ready"] is False


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:10:00", 600), ("1-02:00:05", 93605), ("UNLIMITED", None), ("", None)]
)
def test_times_of_slurm(text: str, seconds: int | None) -> None:
    assert parse_time(text) == seconds


def test_a_finished_run_needs_its_data_no_more(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--config", config, "--data.path", tmp_path / "gone", "--preflight")
    settings, _ = load_config(config, [("data.path", str(tmp_path / "gone"))])
    assert settings is not None
    run = RunDir.claim(settings.run_dir)
    run.write_config(dump_yaml(settings))
    run.write_status("finished", settings.train.max_steps)
    code, _, table = examine(capsys, *words)
    assert code == 0
    assert "finished, nothing left to do" in table
    assert examine(capsys, *words, "--train.max_steps", settings.train.max_steps + 1)[0] == 2
