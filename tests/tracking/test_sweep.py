"""launch/sweep.yaml, run by W&B's own agent against a server on the loopback."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.commands import tiny_flags
from wandb_server import Server
from wandb_support import forget_credentials

from vqdist.config.loading import load_config
from vqdist.tracking.metric_rows import to_event

pytestmark = pytest.mark.timeout(1500)  # for a busy machine
ROOT = Path(__file__).parents[2]
SWEEP = (ROOT / "launch" / "sweep.yaml").read_text()
AGENT = "import wandb.wandb_agent as a; a.Agent.POLL_INTERVAL = 0.2; a.agent('me/vqdist/s1')"


def tiny_parameters() -> dict[str, Any]:
    """Return the keys of a run of two steps with a tiny model, as parameters of a sweep."""
    words = tiny_flags()
    flags = {flag.removeprefix("--"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
    shorter = {"train.max_steps": 2, "run.device": "cpu", "train.preview_every": None, "optim.name": "adam"}
    layers = {"model.patch": 1, "model.fine_layers": 0}
    return {name: value for name, value in flags.items() if name != "task"} | shorter | layers


def draw(position: int) -> dict[str, Any]:
    """Return the first or the last values of the parameters in the sweep file, as the server draws them."""
    parameters = yaml.safe_load(SWEEP)["parameters"]
    bound = "min" if position == 0 else "max"
    return {
        name: space["values"][position] if "values" in space else space[bound] for name, space in parameters.items()
    }


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory, image_set: Path
) -> tuple[Path, Server, subprocess.CompletedProcess[str]]:
    """A sweep of two runs: the folder in which the agent worked, the server, and the agent."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "data").mkdir()
    (folder / "data" / "mine").symlink_to(image_set)
    with Server() as server, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        forget_credentials(patch, folder)
        server.sweep, server.orders = (
            SWEEP,
            [(run, draw(i) | tiny_parameters()) for i, run in ((0, "run0"), (-1, "run9"))],
        )
        for name, value in {
            "BASE_URL": server.url,
            "API_KEY": "a" * 40,
            "ERROR_REPORTING": "false",
            "MODE": "offline",
        }.items():
            patch.setenv(f"WANDB_{name}", value)
        patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", str(ROOT))
        command = [sys.executable, "-W", "ignore", "-c", AGENT]
        agent = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=1400)
        server.shutdown()
    return folder, server, agent


def read_config(folder: Path, run: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((folder / "runs" / run / "config.yaml").read_text())
    return values


def test_every_run_of_a_sweep_has_its_own_directory(
    ended: tuple[Path, Server, subprocess.CompletedProcess[str]],
) -> None:
    folder, server, agent = ended
    names = ["vqvae_oasis-s1-run0", "vqvae_oasis-s1-run9"]
    assert sorted(path.name for path in (folder / "runs").iterdir()) == names, agent.stderr
    assert server.orders == []
    for name in names:
        status = json.loads((folder / "runs" / name / "status.json").read_text())
        assert (status["state"], status["step"]) == ("finished", 2)
        (file,) = (folder / "runs" / name / "wandb").glob("offline-run-*/*.wandb")
        assert file.stem == f"run-{name.rpartition('-')[2]}"
    assert not (folder / "wandb" / "latest-run").exists()


def test_the_spelling_of_the_agent_is_read(ended: tuple[Path, Server, subprocess.CompletedProcess[str]]) -> None:
    folder, *_ = ended
    first, last = (read_config(folder, f"vqvae_oasis-s1-{run}") for run in ("run0", "run9"))
    assert (first["model"]["restart"], last["model"]["restart"]) == (True, False)
    assert (first["optim"]["grad_clip"], last["optim"]["grad_clip"]) == (1.0, None)
    assert (first["optim"]["lr"], last["optim"]["lr"]) == (0.001, 0.006)
    assert first["train"]["preview_every"] is None


def test_the_flags_and_the_metric_of_the_sweep_file_exist() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    args = create_sweep_command_args({"args": {name: {"value": value} for name, value in draw(-1).items()}})["args"]
    assert args == ["--optim.lr=0.006", "--optim.grad_clip=None", "--model.restart=False"]
    config, problems = load_config(
        "vqvae_oasis", [(name[2:], value) for name, _, value in (a.partition("=") for a in args)]
    )
    assert problems == []
    assert config is not None
    assert (config.optim.lr, config.optim.grad_clip) == (0.006, None)
    assert to_event({"step": 1, "split": "validate", "loss": 1.0})["row"].keys() >= {
        yaml.safe_load(SWEEP)["metric"]["name"]
    }
