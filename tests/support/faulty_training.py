"""Train commands with a fault or with extra output. Tests run them in separate processes with `start`."""

import dataclasses
import json
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from support.commands import run_command_main


def train_and_save_state(words: list[str], folder: str) -> int:
    """Train, then describe the final state of this rank in FOLDER/rank-R.json."""
    from vqdist.training import run as run_module

    real = run_module.train

    def train_and_write(run: Any) -> str:
        try:
            return real(run)
        finally:
            path = Path(folder) / f"rank-{run.state.ranks.rank}.json"
            path.write_text(json.dumps(describe_state(run.state)))

    run_module.train = train_and_write
    return run_command_main("train", words)


def describe_state(state: Any) -> dict[str, Any]:
    """Return the SHA-256 of each tensor of a training state, and its progress."""
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


def train_with_nonfinite_steps(
    words: list[str], folder: str, kind: str, steps: list[int], rank: int, times: int = 10**6
) -> int:
    """Train as `train_and_save_state` does, but with steps of one rank that are not finite.

    Args:
        kind: what is not finite: `images`, `loss` or `gradient`.
        times: number of micro-batches to change; afterwards training is normal.
    """
    left = iter(range(times))

    def losses(compute: Callable[..., Any], batch: Any, training: bool) -> Any:
        here = training and batch.step in steps and int(os.environ.get("RANK", "0")) == rank
        if not here or next(left, None) is None:
            return compute(batch)
        if kind == "images":
            batch = dataclasses.replace(batch, values=batch.values.float() * float("nan"))
        found = compute(batch)
        loss = found.terms["loss"]
        if kind == "loss":
            loss = loss * float("inf")
        if kind == "gradient":
            loss = loss + (loss - loss).sqrt()  # 0, whose gradient is NaN
        return dataclasses.replace(found, terms=found.terms | {"loss": loss})

    replace_losses(losses)
    return train_and_save_state(words, folder)


def train_and_block(words: list[str], at_step: int, reached: str) -> int:
    """Train until a step, create a file there and wait forever."""

    def losses(compute: Callable[..., Any], batch: Any, training: bool) -> Any:
        if training and batch.step == at_step:
            Path(reached).touch()
            while True:
                time.sleep(1)
        return compute(batch)

    replace_losses(losses)
    return run_command_main("train", words)


def train_with_slow_evaluation(words: list[str], folder: str, batch_s: float) -> int:
    """Train, but spend some time on each batch of the validate split and append a line to FOLDER/batches-R for it."""

    def losses(compute: Callable[..., Any], batch: Any, training: bool) -> Any:
        if not training:
            with (Path(folder) / f"batches-{os.environ.get('RANK', '0')}").open("a") as file:
                file.write("\n")
            time.sleep(batch_s)
        return compute(batch)

    replace_losses(losses)
    return run_command_main("train", words)


def replace_losses(losses: Callable[[Callable[..., Any], Any, bool], Any]) -> None:
    """Have a function called in place of the VQ-VAE's losses, with the original, the batch and whether it trains."""
    from vqdist.training.tasks.vqvae import VQVAETask

    real = VQVAETask.losses

    def call(task: Any, model: Any, batch: Any, *, training: bool) -> Any:
        return losses(lambda batch: real(task, model, batch, training=training), batch, training)

    VQVAETask.losses = call
