"""The layers of the PixelCNN one by one: gates, causality of a layer, context, mirrored rows."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vqdist.models.gated_layers import Context, GatedLayer, MirroredRows, encode_waves, gate
from vqdist.models.map_conditions import MapConditions
from vqdist.models.pixelcnn import PixelCNN

HIDDEN = 4


def randomize(module: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


def test_a_gate_is_tanh_times_sigmoid() -> None:
    features = torch.randn(2, 3, 2 * HIDDEN)
    values, gates = features[..., :HIDDEN].numpy(), features[..., HIDDEN:].numpy()
    np.testing.assert_allclose(gate(features), np.tanh(values) / (1 + np.exp(-gates)), rtol=1e-5)


def find_inputs(function, inputs: Tensor, y: int, x: int) -> set[tuple[int, int]]:
    """Return the positions of the inputs (1, h, w, C) that the output at a position depends on."""
    inputs = inputs.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(inputs)[0, y, x].sum(), inputs, materialize_grads=True)
    return {(int(row), int(column)) for row, column in gradient[0].any(-1).nonzero()}


@pytest.mark.parametrize("first", [True, False])
def test_a_layer_sees_its_kernel_of_earlier_rows_and_columns(first: bool) -> None:
    layer = GatedLayer(HIDDEN, 3, first=first, dropout=0.0)
    randomize(layer)
    above, left, context = (torch.randn(1, 4, 5, HIDDEN) for _ in range(3))
    rows = {(y, x) for y in ((1,) if first else (1, 2)) for x in (1, 2, 3)}
    columns = {(2, 1)} if first else {(2, 1), (2, 2)}
    assert find_inputs(lambda inputs: layer(inputs, left, context)[0], above, 2, 2) == rows
    assert find_inputs(lambda inputs: layer(inputs, left, context)[1], above, 2, 2) == rows
    assert find_inputs(lambda inputs: layer(above, inputs, context)[1], left, 2, 2) == columns
    assert find_inputs(lambda inputs: layer(above, inputs, context)[0], left, 2, 2) == set()
    only_first = {(2, 2)} if first else set()  # later layers have residual connections instead
    assert find_inputs(lambda inputs: layer(above, left, inputs)[0], context, 2, 2) == only_first


def test_the_context_of_some_rows_is_a_part_of_the_whole() -> None:
    context = Context(HIDDEN, condition="label+slice", num_labels=4, num_slices=9)
    randomize(context)
    given = MapConditions(label=torch.tensor([1, 3]), slice=torch.tensor([0, 8]))
    whole = context.rows(6, 5, given)
    assert whole.shape == (2, 6, 5, HIDDEN)
    torch.testing.assert_close(context.rows(6, 5, given, first=2, last=4), whole[:, 2:4])


def test_the_context_depends_on_position_label_and_slice() -> None:
    context = Context(HIDDEN, condition="label+slice", num_labels=4, num_slices=9)
    randomize(context)
    label, slices = torch.tensor([1, 2, 1]), torch.tensor([5, 5, 6])
    rows = context.rows(3, 3, MapConditions(label, slices))
    assert len(rows[0].reshape(9, HIDDEN).unique(dim=0)) == 9
    assert not torch.allclose(rows[0], rows[1])
    assert not torch.allclose(rows[0], rows[2])


def test_the_position_alone_separates_all_codes() -> None:
    torch.manual_seed(0)
    model = PixelCNN(3, hidden=HIDDEN, layers=2).double().eval()
    randomize(model)
    logits = model(torch.zeros(1, 24, 24, dtype=torch.int64))[0, :, 10:14, 10:14]
    assert (logits - logits[:, :1, :1]).flatten(1)[:, 1:].abs().amax(0).min() > 1e-6


@pytest.mark.parametrize("kernel", [3, 5])
def test_mirrored_rows_are_numbered_from_the_middle(kernel: int) -> None:
    module = MirroredRows(HIDDEN, kernel, dropout=0.0)
    randomize(module)
    features, reach = torch.randn(1, 12, 12, HIDDEN), MirroredRows.LAYERS * (kernel // 2)
    y, x = 4, 5  # mirrored: row 11 - 4
    rows, columns = range(7 - reach, min(7 + reach, 11) + 1), range(x - reach, x + reach + 1)
    assert find_inputs(module, features, y, x) == {(row, column) for row in rows for column in columns}


def test_mirrored_rows_drop_activations_only_on_request() -> None:
    module, features = MirroredRows(HIDDEN, 3, dropout=0.5).train(), torch.randn(1, 4, 4, HIDDEN)
    assert torch.equal(module(features, drop=False), module(features, drop=False))
    assert not torch.equal(module(features), module(features))


def test_waves_are_cosines_and_sines_of_half_periods() -> None:
    share = torch.tensor([0.0, 0.25, 1.0])
    angles = math.pi * np.outer(share.numpy(), [1, 3])
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(encode_waves(share, torch.tensor([1, 3])), expected, atol=1e-6)
