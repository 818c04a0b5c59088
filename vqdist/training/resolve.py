"""Resolve a configuration: settle every key that it leaves open, once, before anything is checked or built."""

import os
from collections.abc import Mapping
from pathlib import Path

from vqdist.config.schema import RunConfig
from vqdist.config.tracking_mode import resolve_mode
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.model_names import is_model_name
from vqdist.foundation.progress import count_noun
from vqdist.foundation.run_status import read_status
from vqdist.runs.resume_checks import keep_chosen_values, load_saved_config
from vqdist.training.optim import FINAL_LR_SHARE, compute_lr
from vqdist.training.precision_support import choose_precision


def resolve_config(
    config: RunConfig, tracking_flag: str | None = None, environ: Mapping[str, str] = os.environ
) -> RunConfig:
    """Return the configuration with no key left open.

    The run's first attempt decides optim.decay_steps and train.precision; a checkpoint to start from becomes an
    absolute path, so that the run can be resumed from any folder.

    Args:
        tracking_flag: the value of `--tracking.mode`, which overrides WANDB_MODE; None if it was not given.
    Raises:
        ConfigError: WANDB_MODE has an unknown value.
    """
    if "project" not in config.tracking.model_fields_set and environ.get("WANDB_PROJECT"):
        config = config.replace("tracking", project=environ["WANDB_PROJECT"])
    config = config.replace("tracking", mode=resolve_mode(tracking_flag, environ, config.tracking.mode))
    if config.checkpoint.resume not in {"auto", "never"} and not is_model_name(config.checkpoint.resume):
        config = config.replace("checkpoint", resume=str(Path(config.checkpoint.resume).absolute()))
    config = keep_chosen_values(config)
    if config.optim.decay_steps is None:
        config = config.replace("optim", decay_steps=config.train.max_steps)
    if config.train.precision == "auto":
        config = config.replace("train", precision=choose_precision(config.run.device))
    return config


def agree_on_precision(config: RunConfig, ranks: Ranks) -> RunConfig:
    """Return the configuration with rank 0's precision, because the devices of nodes may differ.

    Must be called by all ranks.
    """
    return config.replace("train", precision=ranks.broadcast_object(config.train.precision))


def describe_length_change(config: RunConfig) -> list[str]:
    """Return warnings about a run that gets another number of steps than before.

    Args:
        config: resolved; the run directory still has the configuration of the attempt before.
    """
    saved, _ = load_saved_config(config)
    if saved is None:
        return []
    changes = (
        _describe_unrequested_steps(config, saved),
        _describe_late_steps(config, saved),
        _describe_early_end(config, saved),
    )
    return [change for change in changes if change is not None]


def _describe_unrequested_steps(config: RunConfig, saved: RunConfig) -> str | None:
    """Return a warning if a finished run continues because the flag that set its length is not given again."""
    steps, before, file = config.train.max_steps, saved.train.max_steps, config.find_file("train.max_steps")
    is_flag = file is None and "max_steps" in config.train.model_fields_set
    status = read_status(config.run_dir)
    if is_flag or steps <= before or status.get("state") != "finished":
        return None
    source = "its default" if file is None else f"from the configuration {file}"
    return (
        f"WARNING: {config.run_dir} finished at step {status.get('step', before):,}; train.max_steps is now {steps:,}, "
        f"{source}: to leave the run as it is, stop now and pass --train.max_steps {before}"
    )


def _describe_early_end(config: RunConfig, saved: RunConfig) -> str | None:
    """Return a warning if a run now ends before its schedule does."""
    optim, steps = config.optim, config.train.max_steps
    assert optim.decay_steps is not None, "resolved"
    if optim.schedule == "constant" or steps >= min(saved.train.max_steps, optim.decay_steps):
        return None
    return (
        f"WARNING: {config.run_dir}: train.max_steps {steps:,} ends the run before its schedule of the learning rate, "
        f"which ends at step {optim.decay_steps:,} and cannot change: the last step trains at "
        f"{compute_lr(steps, optim):.3g}, not at {compute_lr(optim.decay_steps, optim):.3g}. For a whole schedule of "
        f"{count_noun(steps, 'step')}, choose a new --run.name"
    )


def _describe_late_steps(config: RunConfig, saved: RunConfig) -> str | None:
    """Return a warning if a run gets more steps than before, after the end of its schedule."""
    optim, steps = config.optim, config.train.max_steps
    assert optim.decay_steps is not None, "resolved"
    if optim.schedule == "constant" or steps <= max(saved.train.max_steps, optim.decay_steps):
        return None
    return (
        f"WARNING: {config.run_dir}: the schedule of the learning rate ends at step {optim.decay_steps:,}, and cannot "
        f"change; all later steps up to {steps:,} train at {optim.lr * FINAL_LR_SHARE:.3g}, "
        f"{FINAL_LR_SHARE * 100:.0f} % of optim.lr. To train on at a useful rate, start a new run from these weights: "
        f"--run.name NEW --checkpoint.resume {config.run_dir}"
    )
