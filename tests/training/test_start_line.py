"""The first lines of a run."""

from pathlib import Path

import pytest
import torch
from support import ALONE, tiny_flags

from vqdist.config.loading import load_config
from vqdist.data.shards.manifest import load_manifest
from vqdist.training.build import build_state
from vqdist.training.resolve import resolve_config
from vqdist.training.start_line import describe_start, format_count
from vqdist.training.state import TrainingState
from vqdist.training.tasks import TASKS


def build(data: Path, task: str, **keys: object) -> TrainingState:
    words = tiny_flags(task)
    flags = [(name[2:], text) for name, text in zip(words[::2], words[1::2], strict=True)]
    flags += [("data.path", str(data)), ("run.name", "mine"), ("run.device", "cpu")]
    config, problems = load_config(None, [*flags, *((name, str(value)) for name, value in keys.items())])
    assert problems == []
    assert config is not None
    config = resolve_config(config, "disabled")
    return build_state(config, TASKS[task](config, load_manifest(data), data, torch.device("cpu")), ALONE)


def test_a_new_run_says_what_it_trains(image_set: Path) -> None:
    state = build(image_set, "vqvae")
    count = sum(weight.numel() for weight in state.task.model.parameters())
    assert describe_start(state, resumed=False) == [
        f"mine: 1 x cpu, fp32, 60 slices of 32 x 32 x 1, batch 8, {count / 1000:.1f} k parameters, steps 0 to 20"
    ]


def test_a_resumed_run_says_from_where(code_set: Path) -> None:
    state = build(code_set, "pixelcnn", **{"train.stop_at_step": 15})
    state.progress.step = 12
    first, second = describe_start(state, resumed=True)
    assert first.startswith("mine: 1 x cpu, fp32, 60 code maps of 8 x 8, batch 8, ")
    assert first.endswith(", steps 12 to 15")
    assert second == "mine: resumed from step 12"


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (1234, "1.2 k"), (3_300_000, "3.3 M"), (1_250_000_000, "1.2 G")]
)
def test_counts_are_short(number: int, text: str) -> None:
    assert format_count(number) == text
