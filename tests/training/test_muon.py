"""Muon: orthogonal to what its quintic makes of singular values, torch's own where that takes the weights."""

import pytest
import torch
from torch import Tensor, nn

from vqdist.config.schema import OptimSection
from vqdist.distributed.process_group import Ranks
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.training.muon import Muon, MuonWithAdamW, orthogonalize
from vqdist.training.optim import build_optimizer

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


def iterate_quintic(values: Tensor) -> Tensor:
    """Return what five iterations make of singular values that are divided by their norm before."""
    values = values / values.norm(dim=-1, keepdim=True)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize("shape", [(3, 8, 20), (2, 20, 8), (1, 6, 6), (4, 1, 9), (0, 3, 5)])
def test_orthogonalize_moves_the_singular_values_alone(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    expected = left @ torch.diag_embed(iterate_quintic(values)) @ right
    torch.testing.assert_close(orthogonalize(matrices), expected, rtol=0, atol=1e-9)


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(4, 32, 128) * 1e-3))
    assert 0.6 < values.min() <= values.max() < 1.25


def test_zeros_stay_zeros() -> None:
    assert not orthogonalize(torch.zeros(2, 3, 4)).any()


def take_steps(weights: list[nn.Parameter], *optimizers: torch.optim.Optimizer) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()


def build_weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((6, 10), (6, 10), (12, 5), (7,))]


def test_steps_are_those_of_torch_where_it_takes_the_weights() -> None:
    ours, theirs = build_weights(), build_weights()
    muon = Muon(ours[:3], lr=0.01, weight_decay=0.1, ranks=ALONE)
    take_steps(ours, MuonWithAdamW(muon, torch.optim.AdamW(ours[3:], lr=0.01, weight_decay=0.0, fused=True)))
    muon = torch.optim.Muon(theirs[:3], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(theirs[3:], lr=0.01, weight_decay=0.0)
    take_steps(theirs, muon, adam)
    for our, their, start in zip(ours, theirs, build_weights(), strict=True):
        moved = (their - start).norm()
        assert (our - their).norm() < 0.02 * moved  # torch works in bf16
    torch.testing.assert_close(ours[3], theirs[3])


def test_a_kernel_is_the_matrix_of_its_outputs() -> None:
    flat = build_weights()[0]
    kernel = nn.Parameter(flat.detach().clone().view(6, 2, 1, 5).contiguous(memory_format=torch.channels_last))
    for weight in (flat, kernel):
        take_steps([weight], Muon([weight], lr=0.01, weight_decay=0.01, ranks=ALONE))
    # The same gradients in the same order: a kernel that lies otherwise in memory takes the same steps.
    torch.testing.assert_close(kernel.flatten(1), flat, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_step_that_the_device_may_skip_is_a_step_or_nothing(layout: torch.memory_format) -> None:
    shapes = ((6, 2, 3, 3), (6, 2, 3, 3), (12, 5, 1, 1))
    kernels = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]
    usual, queued = ([nn.Parameter(kernel.clone(memory_format=layout)) for kernel in kernels] for _ in range(2))
    plain, masked = (Muon(weights, lr=0.01, weight_decay=0.1, ranks=ALONE) for weights in (usual, queued))
    generator = torch.Generator().manual_seed(1)
    for number in range(4):
        for ours, theirs in zip(usual, queued, strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            theirs.grad = ours.grad.clone() if number != 2 else torch.full_like(ours, torch.nan)
        if number == 2:
            before = [tensor.clone() for tensor in read_state(queued, masked)]
            masked.step_unless(torch.tensor(1.0))
            assert all(map(torch.equal, read_state(queued, masked), before))
        else:
            plain.step()
            masked.step_unless(torch.tensor(0.0))
    for ours, theirs in zip(read_state(usual, plain), read_state(queued, masked), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def read_state(weights: list[nn.Parameter], optimizer: Muon) -> list[Tensor]:
    """Return the weights, their momenta and their step counts."""
    states = [optimizer.state[weight] for weight in weights]
    return [*(weight.detach() for weight in weights), *(tensor for state in states for tensor in state.values())]


def test_the_momenta_are_those_of_the_weights_that_have_gradients() -> None:
    together, apart = build_weights()[:2], build_weights()[:2]
    optimizer = Muon(together, lr=0.01, weight_decay=0.0, ranks=ALONE)
    alone = [Muon([weight], lr=0.01, weight_decay=0.0, ranks=ALONE) for weight in apart]
    generator = torch.Generator().manual_seed(1)
    for present in ((0, 1), (1,), (0,), (0, 1)):
        for number in range(2):
            gradient = torch.randn(together[0].shape, generator=generator)
            together[number].grad, apart[number].grad = (
                (gradient, gradient.clone()) if number in present else (None, None)
            )
        optimizer.step()
        for each in alone:
            each.step()
    for ours, theirs in zip(together, apart, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    counts = [optimizer.state[weight]["step"].item() for weight in together]
    assert counts == [3.0, 3.0]


def test_compiled_orthogonalize_has_few_graphs_for_all_shapes() -> None:
    graphs: list[object] = []

    def keep_graph(module: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(inputs)
        return module

    compiled = torch.compile(orthogonalize, dynamic=True, backend=keep_graph)
    for shape in ((8, 96, 192), (4, 48, 96), (2, 192, 96), (3, 96, 144), (5, 64, 32), (6, 30, 30), (7, 20, 50)):
        matrices = torch.randn(shape)
        torch.testing.assert_close(compiled(matrices), orthogonalize(matrices))
    assert len(graphs) <= 4


def test_weights_without_a_gradient_stay() -> None:
    weights = build_weights()
    optimizer = Muon(weights[:3], lr=0.01, weight_decay=0.01, ranks=ALONE)
    optimizer.step()
    for weight, start in zip(weights, build_weights(), strict=True):
        assert torch.equal(weight, start)


@pytest.mark.parametrize(
    ("model", "ends"),
    [
        (PixelCNN(8, hidden=8, layers=2, symmetry="rows"), ("embedding.", "context.", "head.")),
        (VQVAE(hidden=8, residual_hidden=4), ("encoder.down.0.", "decoder.up.2.")),
        (VQVAE(hidden=8, residual_hidden=4, patch=4, fine_layers=1), ("encoder.down.0.", "decoder.up.1.")),
        (VQVAE(hidden=8, residual_hidden=4, codebook="grad"), ("encoder.down.0.", "decoder.up.2.")),
    ],
    ids=["prior", "2017", "patch", "gradient"],
)
def test_first_and_last_layers_and_vectors_are_left_to_adam(model: PixelCNN | VQVAE, ends: tuple[str, ...]) -> None:
    optimizer = build_optimizer(model, model.hidden_weights(), OptimSection(name="muon", weight_decay=0.1), ALONE)
    assert isinstance(optimizer, MuonWithAdamW)
    orthogonal = {id(p) for group in optimizer.muon.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_hidden = parameter.ndim > 1 and not name.startswith(ends) and "codebook" not in name
        assert (id(parameter) in orthogonal) == is_hidden, name
    every = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(every) == sorted(map(id, model.parameters()))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        spared = parameter.ndim < 2 or name.endswith("codebook")
        assert decay[id(parameter)] == (0.0 if spared else 0.1), name


def test_both_optimizers_keep_groups_and_state_with_the_pair_after_a_load() -> None:
    weights = build_weights()
    muon = Muon(weights[:3], lr=0.01, weight_decay=0.1, ranks=ALONE)
    pair = MuonWithAdamW(muon, torch.optim.AdamW(weights[3:], lr=0.01))
    take_steps(weights, pair)
    pair.load_state_dict(pair.state_dict())
    for group in pair.param_groups:
        group["lr"] = 0.0
    before = [weight.detach().clone() for weight in weights]
    take_steps(weights, pair)
    assert all(torch.equal(weight, old) for weight, old in zip(weights, before, strict=True))
    assert {name for state in pair.state.values() for name in state} >= {"momentum", "exp_avg"}
    assert len(pair.state) == 4
