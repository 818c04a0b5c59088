"""The conditions of the samples of a batch, and how training hides some of them."""

from dataclasses import replace

import torch
from torch import Tensor

from vqdist.config.attributes import Attribute, Attributes
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.foundation.errors import DataError, UserError
from vqdist.foundation.seeds import derive_seed
from vqdist.models.map_conditions import MapConditions
from vqdist.models.pixelcnn import PixelCNN

# Constants of splitmix64 (Steele et al. 2014), as signed 64-bit numbers.
_GOLDEN, _FIRST, _SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685


def conditions_of(model: PixelCNN, batch: Batch, attributes: Attributes) -> MapConditions:
    """Return the conditions of a batch that a model is conditioned on, and the previous maps if it reads them.

    A number outside of the range of the model's training data becomes the nearest one inside. A category that they do
    not have is unknown.

    Args:
        attributes: of the dataset of the batch.
    Raises:
        DataError: a sample has none.
        UserError: the model has no such label or slice number.
    """
    spec = model.spec
    on_cpu = fit_attributes(batch.conditions_on_cpu.keep(spec.names), len(batch), spec.attributes, attributes)
    for name, values in on_cpu.tensors().items():
        missing = values.isnan() if name in spec.attributes else values == NO_NUMBER
        if batch.keys and missing.any() and not spec.takes_unknown(name):
            key = batch.keys[int(missing.int().argmax())]
            raise DataError.of(f"sample {key}", f"no {name}", "one: the model is conditioned on it")
    if not batch.keys:
        return _complete(batch.conditions.keep(spec.names), len(batch), spec.attributes)
    if batch.host_conditions is None:
        return on_cpu
    if problems := spec.find_problems(len(batch), on_cpu):
        raise UserError(problems)  # on a device the model does not check the ranges
    return fit_attributes(batch.conditions.keep(spec.names), len(batch), spec.attributes, attributes)


def _complete(known: MapConditions, num: int, own: Attributes) -> MapConditions:
    """Return the conditions of a blank sample with valid values for what is unknown."""
    place = next(iter(known.tensors().values()), torch.zeros(num))
    zeros = {name: place.new_full((num,), found.mean, dtype=torch.float32) for name, found in own.items()}
    label, number = (None if values is None else values.clamp(min=0) for values in (known.label, known.slice))
    return MapConditions(label, number, zeros, known.previous)


def fit_attributes(known: MapConditions, num: int, own: Attributes, others: Attributes) -> MapConditions:
    """Return the conditions of `num` maps with the attributes of a dataset in the encoding of a model.

    Args:
        own, others: attributes of the model and of the dataset.
    """
    fitted = {name: _fit_values(values, own[name], others[name]) for name, values in known.attributes.items()}
    return replace(known, attributes=fitted).fill(num, own)


def _fit_values(values: Tensor, own: Attribute, other: Attribute) -> Tensor:
    if own.kind != other.kind:
        return torch.full_like(values, torch.nan)
    if own.kind == "number":
        return values.clamp(own.low, own.high)
    if own.values == other.values:
        return values
    places = values.new_tensor([own.encode(value) for value in other.values])
    return torch.where(values.isnan(), values, places[values.nan_to_num(0).long()])


def hide_at_random(known: MapConditions, share: float, *, seed: int, step: int, positions: Tensor) -> MapConditions:
    """Return conditions of which a share of the samples has each one hidden, and the same share all of them.

    The draws depend only on the seed, the step and the position of a sample in the global batch, so that world size
    and micro-batch change nothing.

    Args:
        positions: (B,) int64.
    """
    everything = draw_uniform(derive_seed(seed, "hide all conditions", step), positions) < share
    hidden = {
        name: everything | (draw_uniform(derive_seed(seed, "hide a condition", step, name), positions) < share)
        for name in known.tensors()
    }
    return known.hide(hidden)


def draw_uniform(seed: int, positions: Tensor) -> Tensor:
    """Return a float in [0, 1) for each position, on its device: the bits of splitmix64 from a seed."""
    state = (positions + 1) * _GOLDEN + seed
    state = (state ^ _shift(state, 30)) * _FIRST
    state = (state ^ _shift(state, 27)) * _SECOND
    return _shift(state ^ _shift(state, 31), 40).float() / 2**24


def _shift(values: Tensor, bits: int) -> Tensor:
    """Shift to the right and fill with 0, not with the sign as torch does."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
