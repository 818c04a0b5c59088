"""The first lines of a training run on the terminal: what is trained, on what, and from which step."""

from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.progress import count_noun
from vqdist.training.state import TrainingState


def describe_start(state: TrainingState, *, resumed: bool) -> list[str]:
    """Return the lines that describe a run before its first step.

    Args:
        resumed: the state is that of a checkpoint of the run.
    """
    config, ranks, manifest = state.config, state.ranks, state.task.manifest
    name, step = config.run_dir.name, state.progress.step
    parameters = sum(weight.numel() for weight in state.task.model.parameters())
    facts = [
        f"{ranks.world_size} x {ranks.device.type}",
        config.train.precision,
        describe_samples(manifest),
        f"batch {config.data.global_batch_size}",
        f"{format_count(parameters)} parameters",
    ]
    last = config.train.last_step
    if step < last:
        facts.append(f"steps {step:,} to {last:,}")
    lines = [f"{name}: {', '.join(facts)}"]
    if resumed:
        lines.append(f"{name}: resumed from step {step:,}")
    elif config.checkpoint.resume not in {"auto", "never"}:
        lines.append(f"{name}: a new run from the weights of {config.checkpoint.resume}")
    if step >= last:
        key = "train.stop_at_step" if last < config.train.max_steps else "train.max_steps"
        at = f"the run is at step {step:,} and ends without training"
        lines.append(f"{name}: step {last:,} of {key} is already reached: {at}")
    elif not manifest.has_samples("validate"):
        lines.append(f"{name}: no validate split: the run keeps its last model, not the one with the best loss")
    return lines


def describe_samples(manifest: Manifest) -> str:
    """Return number and shape of the training samples, for example `50 slices of 64 x 64 x 3`."""
    shape = (*manifest.image_size, manifest.channels) if manifest.grid is None else manifest.grid
    count = count_noun(manifest.splits["train"].samples, "slice" if manifest.grid is None else "code map")
    return f"{count} of {' x '.join(map(str, shape))}"


def format_count(number: int) -> str:
    """Return a count as `950`, `12.3 k`, `3.3 M` or `1.2 G`."""
    for size, suffix in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {suffix}"
    return str(number)
