"""Batches: rows and samples, devices, and conversion to images."""

from dataclasses import replace

import torch

from vqdist.data.loading.batch import NO_NUMBER, Batch, to_images
from vqdist.models.map_conditions import MapConditions


def make_batch() -> Batch:
    numbers = torch.arange(3)
    values = torch.randint(256, (3, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 1.0, 0.0])
    return Batch(5, True, values, MapConditions(numbers, numbers + 1), numbers + 2, weights, ["a", "b"], ["damage"])


def test_blank_samples_are_rows_but_no_samples() -> None:
    batch = make_batch()
    assert (len(batch), batch.num_samples) == (3, 2)


def test_every_tensor_goes_to_the_device() -> None:
    batch = make_batch()
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert {tensor.device.type for tensor in vars(moved).values() if isinstance(tensor, torch.Tensor)} == {"meta"}
    assert moved.values.dtype == torch.uint8
    assert (moved.step, moved.last, moved.keys, moved.skipped) == (5, True, ["a", "b"], ["damage"])


def test_the_previous_maps_are_among_the_tensors_that_a_copy_keeps_alive() -> None:
    batch = make_batch()
    previous = torch.zeros(3, 2, 2, dtype=torch.int64)
    with_previous = replace(batch, conditions=replace(batch.conditions, previous=previous))
    assert len(with_previous.tensors()) == len(batch.tensors()) + 1
    assert any(tensor is previous for tensor in with_previous.tensors())


def test_images_are_floats_from_0_to_1() -> None:
    images = to_images(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert images.dtype == torch.float32
    assert images.tolist() == [0.0, torch.tensor(0.2).item(), 1.0]
    assert NO_NUMBER < 0
