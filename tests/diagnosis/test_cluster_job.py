"""The job around a run: rendezvous, limits of Slurm, W&B."""

import os
from pathlib import Path

import pytest

from vqdist.config.model_config import VQVAEConfig
from vqdist.config.schema import run_config_type
from vqdist.diagnosis import cluster_job
from vqdist.diagnosis.cluster_job import check_rendezvous, check_slurm, check_tracking, parse_time_limit
from vqdist.tracking.tracker import propose_sync

CONFIG = run_config_type("vqvae", VQVAEConfig).model_validate({"run": {"name": "mine"}})


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:10:00", 600), ("1-02:00:05", 93605), ("UNLIMITED", None), ("", None)]
)
def test_time_limits_of_slurm(text: str, seconds: int | None) -> None:
    assert parse_time_limit(text) == seconds


def test_rendezvous() -> None:
    assert check_rendezvous({}).state == "ok"
    assert check_rendezvous({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}).found == (
        "127.0.0.1 is 127.0.0.1, port 29500"
    )
    unknown = check_rendezvous({"MASTER_ADDR": "nowhere.invalid"})
    assert unknown.state == "fix"
    assert "nowhere.invalid" in unknown.found
    assert check_rendezvous({"MASTER_ADDR": "nowhere.invalid", "WORLD_SIZE": "1"}).state == "ok"


def test_loopback_for_several_nodes_is_noted() -> None:
    environment = {"MASTER_ADDR": "127.0.0.1", "SLURM_JOB_NUM_NODES": "2"}
    check = check_rendezvous(environment)
    assert (check.state, check.fix.split(",")[0]) == ("note", "set GLOO_SOCKET_IFNAME")
    assert check_rendezvous(environment | {"GLOO_SOCKET_IFNAME": "ib0"}).state == "ok"


def install_scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    """Put a scontrol on the PATH that prints one line, or fails if there is none."""
    script = folder / "scontrol"
    script.write_text(f"#!/bin/sh\necho '{output}'\n" if output else "#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_job_with_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "JobId=7 JobName=a Requeue=1 Restarts=2 TimeLimit=1-00:00:10 NodeList=node[1-2]"
    install_scontrol(tmp_path, monkeypatch, line)
    check = check_slurm({"SLURM_JOB_ID": "7"})
    assert check.state == "ok"
    assert check.found == "job 7 on node[1-2], time limit 1-00:00:10, attempt 3"
    assert check.figures == {"time_limit_s": 86410.0}


def test_job_without_limit_that_is_not_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_scontrol(tmp_path, monkeypatch, "JobId=7 Requeue=0 Restarts=0 TimeLimit=UNLIMITED NodeList=node1")
    check = check_slurm({"SLURM_JOB_ID": "7"})
    assert (check.state, check.figures) == ("note", {})
    assert "--requeue" in check.fix


def test_job_whose_controller_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_scontrol(tmp_path, monkeypatch, "")
    assert check_slurm({"SLURM_JOB_ID": "7"}).state == "note"
    assert check_slurm({}).state == "ok"


@pytest.mark.parametrize(
    ("has_key", "reason", "state", "found"),
    [
        (
            False,
            "",
            "ok",
            "offline: no API key for http://server (`wandb login` stores one)",
        ),
        (True, "refused", "note", "offline: no answer from http://server (refused)"),
        (True, "", "ok", "online, http://server answers"),
    ],
)
def test_tracking(monkeypatch: pytest.MonkeyPatch, has_key: bool, reason: str, state: str, found: str) -> None:
    monkeypatch.setattr(cluster_job, "find_server_url", lambda: "http://server")
    monkeypatch.setattr(cluster_job, "has_key", lambda url, environ: has_key)
    monkeypatch.setattr(cluster_job, "probe_server", lambda url, limit_s: reason)
    check = check_tracking("online", CONFIG, {})
    later = f"; `{propose_sync(CONFIG.run_dir)}` sends the run later"
    assert (check.state, check.found) == (state, found + later * found.startswith("offline"))


def test_tracking_that_needs_no_server() -> None:
    assert check_tracking("disabled", CONFIG, {}).found == "disabled, as configured"
    assert check_tracking(None, CONFIG, {"WANDB_MODE": "offline"}).state == "ok"
    assert check_tracking(None, CONFIG, {"WANDB_MODE": "sometimes"}).state == "fix"
