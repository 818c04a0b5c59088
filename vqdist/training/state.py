"""The state of a training run on one rank, and how it is saved to and restored from a checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from vqdist.config.schema import RunConfig
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import CheckpointError, Problem, limit_problems, list_examples
from vqdist.models.io import load_model
from vqdist.runs.checkpoint import (
    Tensors,
    load_checkpoint,
    parse_checkpoint,
    read_newest_checkpoint,
    remove_partial_checkpoints,
)
from vqdist.runs.run_dir import RunDir
from vqdist.training.optim import WeightEMA, load_optimizer_tensors, optimizer_tensors
from vqdist.training.tasks.task import Task

TASK_FILE = "usage"  # the name that the first version gave it


@dataclass
class TrainingProgress:
    """The counters of a run; equal on every rank.

    Attributes:
        step: optimizer updates so far, skipped ones included.
        sums: loss term -> (sum, samples) since the last train line.
        best_loss, best_step: the best value of `best_by` and its step; None before the first evaluation.
        best_by: the validate metric by which the best model is chosen. Runs of earlier versions have none saved: they
            go on with "loss", because their best value is one of it.
        stale_evals: evaluations since the best one.
        bad_steps, bad_in_row: skipped non-finite steps, in total and consecutive.
        skipped_samples: damaged samples that were left out.
        rolled_back_at: step at which the run last returned to a checkpoint; None if it never did.
        ended_early: the run ended because of train.patience.
        eval_due: the evaluation of this step was interrupted by a stop and has to be repeated.
    """

    step: int = 0
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    best_loss: float | None = None
    best_step: int | None = None
    best_by: str = "loss"
    stale_evals: int = 0
    bad_steps: int = 0
    bad_in_row: int = 0
    skipped_samples: int = 0
    rolled_back_at: int | None = None
    ended_early: bool = False
    eval_due: bool = False

    def add(self, totals: dict[str, float], count: float) -> None:
        """Add the sums of a step over all ranks to those of the next train line."""
        for name, total in totals.items():
            old_total, old_count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (old_total + total, old_count + count)

    def load(self, values: dict[str, Any]) -> None:
        """Replace all counters by saved ones; TypeError if a name is unknown."""
        self.__dict__.update(vars(TrainingProgress(**values)))
        self.sums = {name: (float(total), float(count)) for name, (total, count) in self.sums.items()}


@dataclass
class TrainingState:
    """Everything that changes while a run trains, on this rank.

    Attributes:
        task: owns the unwrapped model, `task.model`.
        model: the model, wrapped for DDP and autocast.
        weight_ema: None if optim.weight_ema is null.
    """

    config: RunConfig
    task: Task
    ranks: Ranks
    accelerator: Accelerator
    model: nn.Module
    optimizer: Any
    weight_ema: WeightEMA | None
    progress: TrainingProgress = field(default_factory=TrainingProgress)


def capture(state: TrainingState) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Return (tensors by file, JSON values); `restore` restores them bit for bit."""
    tensors = {"model": state.task.model.state_dict(), "optimizer": optimizer_tensors(state.optimizer)}
    if state.weight_ema is not None:
        tensors["weight_ema"] = state.weight_ema.tensors
    if task_state := state.task.state():
        tensors[TASK_FILE] = task_state
    scaler = state.accelerator.scaler
    values = {
        "progress": vars(state.progress).copy(),
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
    return tensors, values


def resume(state: TrainingState, run_dir: RunDir) -> bool:
    """Restore the newest checkpoint that verifies; return whether there is one.

    Rank 0 reads it and sends its bytes to the others, because a network file system may show it to them later.
    Must be called by all ranks.
    """
    ranks, folder = state.ranks, run_dir.checkpoints
    if ranks.is_main:
        remove_partial_checkpoints(folder)
    found = ranks.broadcast_object(read_newest_checkpoint(folder, rename_damaged=True) if ranks.is_main else None)
    if found is None:
        return False
    path, files = found
    restore(state, *parse_checkpoint(files, path), where=str(path))
    return True


def restore(state: TrainingState, tensors: dict[str, Tensors], values: dict[str, Any], *, where: str) -> None:
    """Restore what `capture` returned.

    Args:
        where: name of the checkpoint in errors.
    Raises:
        CheckpointError: the checkpoint has another architecture, or is not the checkpoint of a run.
    """
    if not {"model", "optimizer"} <= tensors.keys() or not {"progress", "scaler", "data_fingerprint"} <= values.keys():
        raise CheckpointError.of(
            where, f"files {list_examples(sorted(tensors))}, state {list_examples(sorted(values))}", "those of a run"
        )
    progress = TrainingProgress()
    try:
        progress.load(values["progress"])
        load_weights(state.task.model, tensors["model"])
        load_optimizer_tensors(state.optimizer, tensors["optimizer"])
        if state.weight_ema is not None:
            state.weight_ema.load(tensors.get("weight_ema", tensors["model"]))
        state.task.load_state(tensors.get(TASK_FILE, {}))
        if state.accelerator.scaler is not None and values["scaler"]:
            state.accelerator.scaler.load_state_dict(values["scaler"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError.of(where, f"{type(error).__name__}: {error}", "the state of this run") from error
    state.progress.load(vars(progress))


def read_weights(path: str) -> Tensors:
    """Return the weights of a checkpoint, a run or a saved model.

    Raises:
        CheckpointError: the path is none of them, or damaged.
    """
    if (Path(path) / "COMMIT.json").exists():
        return load_checkpoint(Path(path))[0].get("model", {})
    return load_model(path).state_dict()


def load_weights(model: nn.Module, tensors: Tensors) -> None:
    """Copy weights into a model.

    Raises:
        CheckpointError: names or shapes differ; lists all of them.
    """
    if problems := find_mismatches(model, tensors):
        raise CheckpointError(limit_problems(problems, "weights"))
    model.load_state_dict(tensors)


def find_mismatches(model: nn.Module, tensors: Tensors) -> list[Problem]:
    """Return the names and shapes of weights that differ from those of a model."""
    wanted = model.state_dict()
    problems = []
    for name in sorted(set(wanted) | set(tensors)):
        found = f"shape {tuple(tensors[name].shape)}" if name in tensors else "nothing"
        expected = f"shape {tuple(wanted[name].shape)}" if name in wanted else "nothing: another architecture"
        if found != expected:
            problems.append(Problem(name, found, expected))
    return problems
