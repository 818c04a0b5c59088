"""Commands on real ranks, and the flags of small training runs."""

import importlib
import subprocess
from typing import Any

from support.datasets import TINY_VQVAE
from support.processes import Ended, Started, start

TINY_PIXELCNN = {"hidden": 8, "layers": 2, "kernel": 3, "condition": "label+slice"}
QUIET = ("--tracking.mode", "disabled", "--run.device", "cpu")


def tiny_flags(task: str = "vqvae") -> list[str]:
    """Return the flags of a run of 20 steps of 8 samples with a tiny model, which takes about a second."""
    settings: dict[str, Any] = {
        "task": task,
        "data.global_batch_size": 8,
        "data.num_workers": 0,
        "train.max_steps": 20,
        "train.log_every": 4,
        "train.eval_every": 10,
        "train.preview_every": None,
        "checkpoint.every_steps": 5,
        "run.timeout_s": 60,
    }
    model = TINY_VQVAE if task == "vqvae" else TINY_PIXELCNN
    settings |= {f"model.{name}": value for name, value in model.items()}
    return [word for name, value in settings.items() for word in (f"--{name}", "null" if value is None else str(value))]


def run_command_main(command: str, words: list[str]) -> int:
    """Run a command in this process and return its exit code."""
    from vqdist.foundation.command import run_command

    return run_command(importlib.import_module(f"vqdist.{command}").main, words)


def start_train(*flags: object, ranks: int = 1, environment: dict[str, str] | None = None) -> Started:
    """Start the train command, with tracking disabled, on the given number of ranks."""
    words = [*QUIET, *map(str, flags)]
    return start(run_command_main, "train", words, ranks=ranks, environment=environment)


def train(*flags: object, ranks: int = 1, check: bool = True, timeout_s: float = 200.0) -> Ended:
    """Run the train command to its end.

    Args:
        check: fail unless all ranks exit with 0.
    """
    with start_train(*flags, ranks=ranks) as started:
        ended = started.wait(timeout_s)
    assert not check or set(ended.codes) == {0}, ended.describe()
    return ended


def run_on_ranks(command: str, *arguments: object, ranks: int) -> Ended:
    """Run a command on the CPU on several ranks, which must succeed."""
    with start(run_command_main, command, [*map(str, arguments), "--device", "cpu"], ranks=ranks) as started:
        ended = started.wait()
    assert ended.code == 0, ended.describe()
    return ended


def launch(module: str, *arguments: object, ranks: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a command on CPU ranks; the result has the standard output of rank 0 and the standard error of all."""
    words = [str(word) for word in arguments]
    with start(run_command_main, module.removeprefix("vqdist."), words, ranks=ranks) as started:
        ended = started.wait(240)
    return subprocess.CompletedProcess([module, *words], max(ended.codes), ended.outputs[0], "".join(ended.logs))
