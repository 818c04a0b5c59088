"""The first lines of a run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import ALONE, tiny_flags, write_image_set
from support.datasets import FEW

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


def test_a_step_that_is_already_reached_is_named(image_set: Path) -> None:
    state = build(image_set, "vqvae", **{"train.stop_at_step": 15})
    state.progress.step = 18
    first, _, last = describe_start(state, resumed=True)
    assert first.endswith(" parameters")
    assert last == (
        "mine: step 15 of train.stop_at_step is already reached: the run is at step 18 and ends without training"
    )


def test_without_a_validate_split_the_last_model_is_kept(tmp_path: Path) -> None:
    data = write_image_set(tmp_path / "data", slices=replace(FEW, subjects={"train": range(4)}))
    _, last = describe_start(build(data, "vqvae"), resumed=False)
    assert last == "mine: no validate split: the run keeps its last model, not the one with the best loss"


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (1234, "1.2 k"), (3_300_000, "3.3 M"), (1_250_000_000, "1.2 G")]
)
def test_counts_are_short(number: int, text: str) -> None:
    assert format_count(number) == text
