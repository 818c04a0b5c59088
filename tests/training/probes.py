"""Train commands that tell more than they do, or have a fault built in; each runs in a process of its own."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch


def run_train(words: list[str]) -> int:
    """Run the train command."""
    from vqdist.foundation.command import run_command
    from vqdist.train import main

    return run_command(main, words)


def train_and_tell(words: list[str], folder: str) -> int:
    """Train, then write what this rank holds to FOLDER/rank-R.json."""
    from vqdist.training import run as launch

    real = launch.train

    def train_and_write(run: Any) -> str:
        try:
            return real(run)
        finally:
            path = Path(folder) / f"rank-{run.state.ranks.rank}.json"
            path.write_text(json.dumps(describe_state(run.state)))

    launch.train = train_and_write
    return run_train(words)


def describe_state(state: Any) -> dict[str, Any]:
    """Return the sha256 of each tensor of a training state, and its progress."""
    from vqdist.training.optim import optimizer_tensors

    return {
        "model": {name: digest(tensor) for name, tensor in state.task.model.state_dict().items()},
        "optimizer": {name: digest(tensor) for name, tensor in optimizer_tensors(state.optimizer).items()},
        "weight_ema": {name: digest(tensor) for name, tensor in state.weight_ema.tensors.items()}
        if state.weight_ema
        else {},
        "progress": vars(state.progress),
    }


def digest(tensor: torch.Tensor) -> str:
    return sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()


def poison(kind: str, batch: Any) -> Any:
    """Return a batch that holds no numbers any more, where that is how the poison works."""
    if kind != "images":
        return batch
    return dataclasses.replace(batch, values=batch.values.float() * float("nan"))


def train_poisoned(words: list[str], folder: str, kind: str, steps: list[int], rank: int, times: int = 10**6) -> int:
    """Train as train_and_tell does, but make some steps of one rank not finite: by its `images`, its loss or gradient.

    Args:
        times: how often in all; a poison that wears off lets the run go on after it went back.
    """
    from vqdist.training.tasks.vqvae import VQVAETask

    real, left = VQVAETask.losses, iter(range(times))

    def losses(task: Any, model: Any, batch: Any, *, training: bool) -> Any:
        here = training and batch.step in steps and int(os.environ.get("RANK", "0")) == rank
        if not here or next(left, None) is None:
            return real(task, model, batch, training=training)
        losses = real(task, model, poison(kind, batch), training=training)
        loss = losses.terms["loss"]
        if kind == "loss":
            loss = loss * float("inf")
        if kind == "gradient":
            loss = loss + (loss - loss).sqrt()  # 0 whose gradient is not a number
        return dataclasses.replace(losses, terms=losses.terms | {"loss": loss})

    VQVAETask.losses = losses
    return train_and_tell(words, folder)


def train_with_a_bug(words: list[str], at_step: int, bug: Callable[[Any], Any]) -> int:
    """Train, but call a function of a module with the training state before a step."""
    from vqdist.training import loop

    real = loop.train_step

    def step(state: Any, *rest: Any) -> Any:
        if state.progress.step + 1 == at_step:
            bug(state)
        return real(state, *rest)

    loop.train_step = step
    return run_train(words)


def train_slowly(words: list[str], step_s: float = 0.0, validate_s: float = 0.0) -> int:
    """Train, but take some time over every step and every batch of the validate split."""
    from vqdist.training.tasks.vqvae import VQVAETask

    real = VQVAETask.losses

    def losses(task: Any, model: Any, batch: Any, *, training: bool) -> Any:
        time.sleep(step_s if training else validate_s)
        return real(task, model, batch, training=training)

    VQVAETask.losses = losses
    return run_train(words)


def find_children(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    parents = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended meanwhile
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


def is_alive(pid: int) -> bool:
    """Tell whether a process still runs; one that only waits for its parent to take note does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
