"""Commands of vqdist in processes that are forked from a server with torch imported, and the runs that they train."""

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from checks import Checker

PREPARATION_LIMIT_S = 1500.0
PRELOADED = ("accelerate", "torch._dynamo", "vqdist.train", "vqdist.training.run", "vqdist.encode")

_server = get_context("forkserver")


def start_server() -> None:
    """Start the server; call it before the device is used, because processes with a CUDA context cannot fork."""
    _server.set_forkserver_preload(list(PRELOADED))


def run_command(command: str, arguments: Sequence[object], log: Path, limit_s: float) -> int:
    """Run a command of vqdist; return its exit code, 124 after the limit."""
    process = _server.Process(target=_run_here, args=(command, [str(argument) for argument in arguments], str(log)))
    process.start()
    process.join(limit_s)
    if process.is_alive():
        process.kill()
        process.join()
        return 124
    return process.exitcode if process.exitcode is not None else 1


def _run_here(command: str, arguments: list[str], log: str) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    from vqdist.foundation.command import run_command as run

    sys.exit(run(importlib.import_module(f"vqdist.{command}").main, arguments))


@dataclass(frozen=True)
class Training:
    """A run that has ended."""

    name: str
    codes: tuple[int, ...]
    folder: Path

    def read_train_lines(self) -> list[dict[str, Any]]:
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["split"] == "train"]

    @property
    def loss(self) -> float:
        return self.read_train_lines()[-1]["loss"]

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.folder / "model" / "model.safetensors").read_bytes()).hexdigest()

    def require(self, *codes: int) -> None:
        if self.codes != codes:
            log = (self.folder.parent / f"{self.name}.log").read_text(errors="replace").strip()
            raise RuntimeError(f"{self.name}: exit codes {self.codes}, expected {codes}: {log.splitlines()[-1:]}")


def train(checker: Checker, name: str, config: str, data: Path, *attempts: dict[str, object]) -> Training:
    """Train a run in one or more attempts, each with its keys."""
    where = {"run.dir": checker.out, "run.name": name, "data.path": data, "tracking.mode": "disabled"}
    quiet = {"train.preview_every": "null", "train.log_every": 2, "train.eval_every": 1000}
    codes = []
    for keys in attempts:
        words = [word for key, value in (where | quiet | keys).items() for word in (f"--{key}", value)]
        log = checker.out / f"{name}.log"
        codes.append(run_command("train", ["--config", config, *words], log, checker.process_limit_s))
    return Training(name, tuple(codes), checker.out / name)


def prepare(folder: Path, *, small: bool) -> None:
    """Write a dataset of images and one of codes."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = ("--num-subjects", 4 if small else 12, "--num-slices", 8 if small else 32)
    log = folder / "prepare.log"
    again = ("--overwrite", "true")
    shard = ["demo", folder / "images", *sizes, "--image-size", 32 if small else 128, *again]
    where = ("--run.dir", folder, "--run.name", "vqvae", "--data.path", folder / "images")
    length = ("--train.max_steps", 1, "--train.preview_every", "null", "--run.device", "cpu")
    commands = (
        ("shard", shard),
        ("train", ["--config", "vqvae_debug", *where, *length]),
        ("encode", ["--run", folder / "vqvae", "--data", folder / "images", "--out", folder / "codes", *again]),
    )
    for command, words in commands:
        if run_command(command, words, log, PREPARATION_LIMIT_S):
            raise SystemExit(f"{command} failed: {log.read_text(errors='replace')[-2000:]}")
