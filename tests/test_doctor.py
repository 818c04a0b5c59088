"""The doctor command: its report on a machine that is ready, and on each kind of problem."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import find_port, start, write_images

from vqdist import doctor
from vqdist.config.loading import load_config
from vqdist.config.schema import dump_yaml
from vqdist.diagnosis import trial
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DamagedDataError
from vqdist.runs.run_dir import RunDir
from vqdist.training.resolve import resolve_config

SMALL = {"hidden": 8, "residual_hidden": 4, "downsample": 4, "code_dim": 4, "num_codes": 16}


@pytest.fixture(autouse=True)
def short_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "READ_S", 0.1)


@pytest.fixture
def config(tmp_path: Path, image_set: Path) -> Path:
    """A configuration file of a run that is small enough for a trial."""
    values = {
        "run": {"dir": str(tmp_path / "runs"), "device": "cpu"},
        "data": {"path": str(image_set), "global_batch_size": 6, "num_workers": 0},
        "model": SMALL,
        "tracking": {"mode": "disabled"},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def run_doctor(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
    """Return exit code, JSON and table."""
    code = doctor.main([str(word) for word in arguments])
    out, err = capsys.readouterr()
    return code, json.loads(out), err


def states(report: dict[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in report["checks"]}


def found_problems(report: dict[str, Any]) -> list[dict[str, str]]:
    return [check for check in report["checks"] if check["state"] == "fix"]


def read_report(outputs: list[str]) -> dict[str, Any]:
    """Return the one JSON object that rank 0, and no other, printed."""
    lines = [
        (rank, line) for rank, output in enumerate(outputs) for line in output.splitlines() if line.startswith("{")
    ]
    ((rank, line),) = lines
    assert rank == 0
    return json.loads(line)


def test_one_process(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, table = run_doctor(capsys, "--config", config, "--train.max_steps", 5000)
    assert code == 0
    assert report["ready"] is True
    assert found_problems(report) == []
    names = [line.split("  ")[0] for line in table.splitlines() if line[:1].isalpha()]
    assert names[:2] == ["configuration", "run directory"]
    assert names.index("checkpoints") < names.index("estimate")
    assert table.splitlines()[-1].startswith("ready")
    figures = report["figures"]
    assert figures["wall_time_s"] == pytest.approx(5000 / figures["steps_per_s"])
    assert figures["read_samples_per_s"] > 0
    # Weights, and two moments of each, in four bytes.
    assert figures["checkpoint_bytes"] > 12 * 1000
    assert not (tmp_path / "runs").exists(), "the doctor leaves no files"


@pytest.mark.ranks
def test_two_ranks(config: Path) -> None:
    with start(doctor.main, ["--config", str(config)], ranks=2) as started:
        ended = started.wait()
    assert ended.code == 0, ended.describe()
    report = read_report(ended.outputs)
    assert report["figures"]["ranks"] == 2
    assert report["figures"]["all_reduce_bytes_per_s"] > 0
    assert states(report)["shared files"] == "ok"
    assert states(report)["checkpoints"] == "ok"
    assert "reading" in ended.logs[0]
    assert "reading" not in ended.logs[1]


@pytest.mark.ranks
def test_missing_rank(config: Path) -> None:
    launcher = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    launcher |= {"MASTER_PORT": str(find_port()), "ACCELERATE_USE_CPU": "true"}
    words = ["--config", str(config), "--run.timeout_s", "2"]
    with start(doctor.main, words, environment=launcher) as started:
        ended = started.wait()
    assert ended.code == 2, ended.describe()
    assert states(read_report(ended.outputs))["ranks"] == "fix"
    assert "did not join" in ended.logs[0]


def test_a_rank_on_another_device_uses_the_precision_of_rank_0(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqdist.training.resolve.choose_precision", lambda device: "bf16")
    monkeypatch.setattr(Ranks, "broadcast_object", lambda ranks, value: "fp32" if value == "bf16" else value)
    _, report, _ = run_doctor(capsys, "--config", config, "--train.precision", "auto")
    (found,) = [check["found"] for check in report["checks"] if check["name"] == "precision"]
    assert found == "fp32"


def test_preflight_does_not_import_torch(config: Path) -> None:
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
    code, report, table = run_doctor(capsys, *words)
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
def test_arguments_without_a_valid_run(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    code, report, _ = run_doctor(capsys, *words)
    assert code == 2
    assert len(report["checks"]) == len(parts)
    assert all(check["found"].startswith(part) for check, part in zip(report["checks"], parts, strict=True))


def test_launcher_variables_that_are_not_numbers(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "two")
    code, report, table = run_doctor(capsys, "--config", config)
    assert (code, len(report["checks"])) == (2, 2)
    assert "SLURM_JOB_NUM_NODES: ''" in table
    assert "LOCAL_WORLD_SIZE: 'two'" in table


def test_truncated_shard(config: Path, image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(image_set, tmp_path / "copy")
    shard = sorted(copy.glob("train/*.tar"))[1]
    shard.write_bytes(shard.read_bytes()[:-10])
    code, report, _ = run_doctor(capsys, "--preflight", "--config", config, "--data.path", copy)
    assert code == 2
    (bad,) = found_problems(report)
    assert bad["name"] == "data"
    assert f"train/{shard.name}" in bad["found"]


def test_run_with_another_model(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs/small"
    run.mkdir(parents=True)
    saved = yaml.safe_load(config.read_text()) | {"task": "vqvae", "optim": {"decay_steps": 7}}
    saved["model"] = SMALL | {"hidden": 16}
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    code, report, _ = run_doctor(capsys, "--preflight", "--config", config)
    assert code == 2
    assert "model.hidden" in str(found_problems(report))


def test_problem_of_a_run_is_listed_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = run_doctor(capsys, "--config", config, "--run.dir", config, "--data.global_batch_size", 1000)
    assert code == 2
    assert [check["name"] for check in found_problems(report)] == ["run directory", "file system", "start"]
    assert "data.global_batch_size" in found_problems(report)[2]["found"]


def test_run_directory_that_cannot_be_created(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = run_doctor(capsys, "--preflight", "--config", config, "--run.dir", config)
    assert code == 2
    assert states(report)["file system"] == "fix"


def test_main_address_that_does_not_resolve(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "nowhere.invalid")
    code, report, table = run_doctor(capsys, "--preflight", "--config", config)
    assert code == 2
    assert states(report)["rendezvous"] == "fix"
    assert "nowhere.invalid" in table


def test_preflight_refuses_settings_of_the_launcher(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    code, report, _ = run_doctor(capsys, "--preflight", "--config", config)
    assert (code, states(report)["launcher"]) == (2, "fix")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "false")
    assert run_doctor(capsys, "--preflight", "--config", config)[0] == 0


def test_preflight_compares_the_batch_with_the_data(
    config: Path, code_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report, _ = run_doctor(capsys, "--preflight", "--config", config, "--data.global_batch_size", 1000)
    assert "data.global_batch_size: 1000 for" in found_problems(report)[0]["found"]
    _, report, _ = run_doctor(capsys, "--preflight", "--config", config, "--data.path", code_set)
    assert "a dataset of codes" in found_problems(report)[0]["found"]


def test_help_lists_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        doctor.main(["--help"])
    out = capsys.readouterr().out
    assert "--checkpoint.keep" in out
    text = " ".join(out.split())
    assert "the name of a shipped configuration (text|null, default: null)" in text
    assert all(f"--{flag} " in text for flag in ("config", "preflight", "verbose"))


def test_a_finished_run_does_not_need_its_data(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--config", config, "--data.path", tmp_path / "gone", "--preflight")
    settings, _ = load_config(config, [("data.path", str(tmp_path / "gone"))])
    assert settings is not None
    run = RunDir.claim(settings.run_dir)
    run.write_config(dump_yaml(resolve_config(settings, "disabled")))
    run.write_status("finished", settings.train.max_steps)
    code, _, table = run_doctor(capsys, *words)
    assert code == 0
    assert "finished, nothing left to do" in table
    code, _, table = run_doctor(capsys, *words[:-1])
    assert code == 0
    assert "no steps were run: the run is finished" in table
    assert run_doctor(capsys, *words, "--train.max_steps", settings.train.max_steps + 1)[0] == 2


def test_checks_are_printed_before_torch_is_loaded(config: Path) -> None:
    program = """
import sys
from vqdist import doctor
from vqdist.diagnosis import check
printed = []
check.print_message = lambda text: printed.append((text.split()[0], "torch" in sys.modules))
code = doctor.main(sys.argv[1:])
before = [name for name, loaded in printed if not loaded]
assert before == ["configuration", "run", "data", "file", "space", "rendezvous"], printed
sys.exit(code)
"""
    command = [sys.executable, "-c", program, "--config", str(config)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_a_finished_run_with_other_data_is_not_ready(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = load_config(config, [])
    assert settings is not None
    run = RunDir.claim(settings.run_dir)
    run.write_config(dump_yaml(settings))
    run.write_status("finished", settings.train.max_steps)
    other = write_images(tmp_path / "other")
    code, report, _ = run_doctor(capsys, "--preflight", "--config", config, "--data.path", other)
    assert code == 2
    (bad,) = found_problems(report)
    assert bad["found"] == f"data.path: {run.path} was trained on {settings.data.path}; you gave {other}"
    assert bad["fix"] == "choose another --run.name"


def test_a_wrong_key_does_not_hide_what_else_is_wrong(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "two")
    words = ("--config", config, "--optim.lr", -1, "--data.path", tmp_path / "gone")
    code, report, _ = run_doctor(capsys, *words)
    assert code == 2
    assert [check["found"].split()[0] for check in found_problems(report)] == [
        *("optim.lr:", "LOCAL_WORLD_SIZE:", "ACCELERATE_USE_FSDP:", "data.path:")
    ]


def test_damaged_samples_are_results_of_a_check(
    config: Path,
    image_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "READ_S", 2.0)  # enough for several samples on a busy machine
    copy = shutil.copytree(image_set, tmp_path / "copy")
    for shard in copy.glob("train/*.tar"):
        data = bytearray(shard.read_bytes())
        at = data.index(b"IDAT") + 8
        data[at] ^= 255
        shard.write_bytes(data)
    code, report, table = run_doctor(capsys, "--config", config, "--data.path", copy)
    assert code == 2
    bad = found_problems(report)
    assert {check["name"] for check in bad} == {"reading"}
    assert len(bad) > 1, "the first one does not hide the others"
    assert all("train/shard-" in check["found"] for check in bad[:5])
    assert "no steps were run: the dataset is damaged" in table
    # A run with data.on_error skip leaves the samples out.
    code, report, _ = run_doctor(capsys, "--config", config, "--data.path", copy, "--data.on_error", "skip")
    assert (code, found_problems(report)) == (0, [])


def test_damage_that_only_the_trial_meets(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(*_: object) -> None:
        raise DamagedDataError.of("train/a.tar, sample b", "another CRC-32", "the sample of the manifest")

    monkeypatch.setattr(trial, "run_trial", meet)
    code, report, table = run_doctor(capsys, "--config", config)
    assert code == 2
    assert found_problems(report)[0]["found"] == "train/a.tar, sample b: another CRC-32"
    assert table.splitlines()[-1].startswith("not ready: 1 to fix")
