"""The whole state of a run, and its way into a checkpoint and back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from vqdist.config.schema import RunConfig
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import CheckpointError, Problem
from vqdist.models.io import load_model
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.quantizer import VectorQuantizer
from vqdist.models.vqvae import VQVAE
from vqdist.runs.checkpoint import (
    Tensors,
    load_checkpoint,
    parse_checkpoint,
    read_newest_checkpoint,
    remove_partial_checkpoints,
)
from vqdist.runs.run_dir import RunDir
from vqdist.training.optim import WeightEMA, load_optimizer_tensors, optimizer_tensors
from vqdist.training.tasks.tasks import Task


@dataclass
class TrainingProgress:
    """What changes from step to step beside tensors; the same on every rank.

    Attributes:
        step: optimizer updates so far, skipped ones included.
        sums: term -> (sum, samples) since the last train line.
        best_loss, best_step: the best validate loss and where it was; None before the first.
        stale_evals: evaluations since then.
        bad_steps, bad_in_row: steps that were skipped since they were not finite.
        skipped_samples: damaged samples left out.
        rolled_back_at: the step at which the run last went back to a checkpoint; None if it never did.
        ended_early: patience has run out.
        eval_due: the evaluation of this step is still to be made; a stop came first.
    """

    step: int = 0
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    best_loss: float | None = None
    best_step: int | None = None
    stale_evals: int = 0
    bad_steps: int = 0
    bad_in_row: int = 0
    skipped_samples: int = 0
    rolled_back_at: int | None = None
    ended_early: bool = False
    eval_due: bool = False

    def add(self, totals: dict[str, float], count: float) -> None:
        """Add a step's sums over all ranks to the train line that is being gathered."""
        for name, total in totals.items():
            old_total, old_count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (old_total + total, old_count + count)


@dataclass
class Session:
    """The parts of a run while it runs on this rank.

    Attributes:
        model: as wrapped for DDP and autocast; `inner` is the same model bare.
        usage: (K,) how often each code was taken since the last train line, over all ranks; None without codes.
    """

    config: RunConfig
    task: Task
    ranks: Ranks
    accelerator: Accelerator
    model: nn.Module
    inner: VQVAE | PixelCNN
    optimizer: Any
    weight_ema: WeightEMA | None
    progress: TrainingProgress
    usage: torch.Tensor | None

    @property
    def quantizer(self) -> VectorQuantizer | None:
        """The codebook that learns in this stage, if one does."""
        found = getattr(self.inner, "quantizer", None)
        return found if isinstance(found, VectorQuantizer) else None


def capture(session: Session) -> tuple[dict[str, Tensors], dict[str, Any]]:
    """Return (tensors by file, JSON state) that `restore` takes back to the bit."""
    tensors = {
        "model": session.inner.state_dict(),
        "optimizer": optimizer_tensors(session.optimizer),
    }
    if session.weight_ema is not None:
        tensors["weight_ema"] = session.weight_ema.tensors
    if session.usage is not None and session.quantizer is not None:
        tensors["usage"] = {"usage": session.usage, "restarts": session.quantizer.restarted}
    scaler = session.accelerator.scaler
    state = {
        "progress": vars(session.progress).copy(),
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
    return tensors, state


def resume(session: Session, run_dir: RunDir) -> bool:
    """Put the session where the newest checkpoint that verifies stands; tell whether there is one.

    Rank 0 reads it and hands its bytes to the others: a network file system may show it to them later.
    Collective: every rank.
    """
    ranks, folder = session.ranks, run_dir.checkpoints
    if ranks.is_main:
        remove_partial_checkpoints(folder)
    found = ranks.broadcast_object(read_newest_checkpoint(folder, rename_damaged=True) if ranks.is_main else None)
    if found is None:
        return False
    path, files = found
    restore(session, *parse_checkpoint(files, path), where=str(path))
    return True


def restore(session: Session, tensors: dict[str, Tensors], state: dict[str, Any], *, where: str) -> None:
    """Put a session back to where `capture` saw it.

    Args:
        where: what to call the checkpoint in an error.
    Raises:
        CheckpointError: the checkpoint is of another architecture, or no checkpoint of a run.
    """
    if not {"model", "optimizer"} <= tensors.keys() or not {"progress", "scaler", "data_fingerprint"} <= state.keys():
        raise CheckpointError.of(where, f"files {sorted(tensors)}, state {sorted(state)}", "those of a run")
    try:
        progress = TrainingProgress(**state["progress"])
        progress.sums = {name: (float(total), float(count)) for name, (total, count) in progress.sums.items()}
        load_weights(session.inner, tensors["model"])
        load_optimizer_tensors(session.optimizer, tensors["optimizer"])
        if session.weight_ema is not None:
            session.weight_ema.load(tensors.get("weight_ema", tensors["model"]))
        if session.usage is not None and session.quantizer is not None and "usage" in tensors:
            session.usage.copy_(tensors["usage"]["usage"])
            session.quantizer.restarted.copy_(tensors["usage"].get("restarts", torch.tensor(0)))
        if session.accelerator.scaler is not None and state["scaler"]:
            session.accelerator.scaler.load_state_dict(state["scaler"])
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError.of(where, f"{type(error).__name__}: {error}", "the state of this run") from error
    session.progress = progress


def read_weights(path: str) -> Tensors:
    """Return the weights of a checkpoint, a run or a saved model.

    Raises:
        CheckpointError: none of the three, or damaged.
    """
    if (Path(path) / "COMMIT.json").exists():
        return load_checkpoint(Path(path))[0].get("model", {})
    return load_model(path).state_dict()


def load_weights(model: nn.Module, tensors: Tensors) -> None:
    """Copy weights into a model.

    Raises:
        CheckpointError: a name or a shape differs; all of them are named.
    """
    if problems := find_misfits(model, tensors):
        raise CheckpointError(problems)
    model.load_state_dict(tensors)


def find_misfits(model: nn.Module, tensors: Tensors) -> list[Problem]:
    """Return where names and shapes of weights are not a model's."""
    wanted = model.state_dict()
    problems = []
    for name in sorted(set(wanted) | set(tensors)):
        found = f"shape {tuple(tensors[name].shape)}" if name in tensors else "nothing"
        expected = f"shape {tuple(wanted[name].shape)}" if name in wanted else "nothing: another architecture"
        if found != expected:
            problems.append(Problem(name, found, expected))
    return problems
