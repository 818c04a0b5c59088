"""The feed of steps: nothing is loaded ahead on a CPU; on a device that queues work, one step is."""

from collections.abc import Iterator

import pytest
import torch

from vqdist.data.loading.batch import Batch
from vqdist.foundation import devices
from vqdist.foundation.errors import DataError
from vqdist.models.map_conditions import MapConditions
from vqdist.training.step_feed import StepFeed

META = torch.device("meta")


def make_batch(step: int) -> Batch:
    numbers = torch.full((2,), step)
    return Batch(
        step, True, torch.zeros(2, 1, 4, 4), MapConditions(numbers, numbers), numbers, torch.ones(2), ["a", "b"]
    )


def load(loaded: list[int], *, damaged: int = 0) -> Iterator[list[Batch]]:
    """Yield steps from 1 on, and note which are loaded."""
    step = 0
    while True:
        step += 1
        if step == damaged:
            raise DataError.of("sample 7", "damage", "none")
        loaded.append(step)
        yield [make_batch(step)]


def test_a_cpu_loads_no_step_ahead() -> None:
    loaded: list[int] = []
    waits: list[float] = []
    feed = StepFeed(load(loaded), torch.device("cpu"), waits.append)
    assert feed.take()[0].step == 1
    feed.prefetch()
    assert loaded == [1]
    assert feed.take()[0].step == 2
    assert len(waits) == 2
    assert min(waits) >= 0


def test_a_device_gets_the_next_step_ahead_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "QUEUING_DEVICES", frozenset({"meta"}))
    loaded: list[int] = []
    waits: list[float] = []
    feed = StepFeed(load(loaded), META, waits.append)
    (first,) = feed.take()
    assert (first.step, first.values.device.type) == (1, "cpu")
    feed.prefetch()
    feed.prefetch()
    assert loaded == [1, 2]
    (second,) = feed.take()
    assert (second.step, second.keys) == (2, ["a", "b"])
    assert {tensor.device.type for tensor in second.tensors()} == {"meta"}
    assert second.conditions_on_cpu.label.tolist() == [2, 2]
    assert second.to(META).conditions_on_cpu.label.tolist() == [2, 2]
    assert feed.take()[0].step == 3
    assert len(waits) == 3


def test_an_error_ahead_is_raised_when_its_step_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "QUEUING_DEVICES", frozenset({"meta"}))
    feed = StepFeed(load([], damaged=2), META, lambda seconds: None)
    feed.take()
    feed.prefetch()
    with pytest.raises(DataError, match="sample 7"):
        feed.take()
