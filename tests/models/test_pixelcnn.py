"""The gated PixelCNN: exactly causal, no blind spot, every condition heard, bad conditions refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.foundation.errors import UserError
from vqdist.models.pixelcnn import CONDITIONS, SYMMETRIES, PixelCNN

CODES, LABELS, SLICES = 3, 4, 9


def build_model(**keys: object) -> PixelCNN:
    """Return a float64 model in eval mode with large random weights: causality is to hold for any."""
    torch.manual_seed(0)
    arguments = {"hidden": 4, "layers": 2, "num_labels": LABELS, "num_slices": SLICES, **keys}
    model = PixelCNN(CODES, **arguments).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def build_conditions(condition: str, num: int) -> dict[str, Tensor]:
    values = {"label": torch.arange(num) % LABELS, "slice": torch.arange(num) % SLICES}
    return {name: value for name, value in values.items() if name in condition}


def compute_reach(model: PixelCNN, h: int, w: int) -> Tensor:
    """Return (h * w, h * w) bool: whether the logits of a place (row) depend on a code (column)."""
    conditions = build_conditions(model.condition, 1)
    codes = torch.zeros(1, h, w, dtype=torch.int64)

    def compute_logits(embedded: Tensor) -> Tensor:
        with model.embedding.register_forward_hook(lambda *_: embedded):
            return model(codes, **conditions)[0]

    embedded = torch.randn(1, h, w, model.config["hidden"], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(compute_logits, embedded, vectorize=True)
    return (jacobian != 0).any(0).any(-1).reshape(h * w, h * w)  # from (K, h, w, 1, h, w, C)


def expected_reach(h: int, w: int, reach: int) -> Tensor:
    """Return what a code may and should depend on: all codes before it, as far as the kernels carry."""
    expected = torch.zeros(h, w, h, w, dtype=torch.bool)
    for y in range(h):
        for x in range(w):
            start = max(0, x - reach)
            expected[y, x, max(0, y - reach) : y, start : x + reach + 1] = True
            expected[y, x, y, start:x] = True
    return expected.reshape(h * w, h * w)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 15])
def test_jacobian_is_exactly_the_codes_before(layers: int, condition: str) -> None:
    model = build_model(layers=layers, condition=condition)
    assert torch.equal(compute_reach(model, 4, 6), expected_reach(4, 6, 2 * layers))


@pytest.mark.parametrize("layers", range(1, 16))
def test_jacobian_for_every_layer_count(layers: int) -> None:
    assert torch.equal(compute_reach(build_model(layers=layers), 5, 3), expected_reach(5, 3, 2 * layers))


@pytest.mark.parametrize(("kernel", "layers"), [(3, 1), (3, 2), (3, 3), (7, 1), (7, 2), (5, 1)])
def test_reach_ends_where_the_kernels_end(kernel: int, layers: int) -> None:
    reach = layers * (kernel // 2)
    assert torch.equal(compute_reach(build_model(kernel=kernel, layers=layers), 5, 8), expected_reach(5, 8, reach))


@pytest.mark.parametrize(("h", "w"), [(1, 4), (2, 5), (3, 3), (9, 2), (10, 3), (4, 9)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_rows_across_the_middle_are_seen_as_far_as_two_kernels_carry(h: int, w: int, kernel: int) -> None:
    reach = kernel // 2
    expected = expected_reach(h, w, reach).reshape(h, w, h, w)
    for y in range(h - h // 2, h):
        for x in range(w):
            across, columns = h - 1 - y, slice(max(0, x - 2 * reach), x + 2 * reach + 1)
            expected[y, x, max(0, across - 2 * reach) : min(h // 2, across + 2 * reach + 1), columns] = True
    model = build_model(layers=1, kernel=kernel, symmetry="rows")
    assert torch.equal(compute_reach(model, h, w), expected.reshape(h * w, h * w))


@pytest.mark.parametrize("layers", [2, 3, 15])
def test_the_rows_across_are_no_later_codes(layers: int) -> None:
    reached = compute_reach(build_model(layers=layers, symmetry="rows", condition="slice"), 5, 4)
    assert not reached.triu().any()


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_later_codes_change_no_earlier_logit(symmetry: str) -> None:
    model = build_model(layers=4, symmetry=symmetry)
    codes = torch.randint(CODES, (2, 5, 4))
    before = model(codes)
    for position in range(20):
        changed = codes.clone()
        changed.view(2, -1)[:, position:] = (changed.view(2, -1)[:, position:] + 1) % CODES
        after = model(changed).flatten(2)
        assert torch.equal(after[..., : position + 1], before.flatten(2)[..., : position + 1])


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_parameter_gets_a_gradient(condition: str, symmetry: str) -> None:
    model = build_model(layers=3, condition=condition, symmetry=symmetry)
    codes = torch.randint(CODES, (4, 5, 4))
    F.cross_entropy(model(codes, **build_conditions(condition, 4)), codes).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("condition", ["label", "slice", "label+slice"])
def test_conditions_change_the_logits_of_their_own_map_only(condition: str) -> None:
    model = build_model(condition=condition)
    codes = torch.randint(CODES, (2, 3, 4))
    given = build_conditions(condition, 2)
    before = model(codes, **given)
    for name in given:
        changed = {**given, name: given[name] + torch.tensor([0, 1])}
        after = model(codes, **changed)
        assert torch.equal(after[0], before[0])
        assert not torch.allclose(after[1], before[1])


def test_place_alone_tells_codes_apart() -> None:
    logits = build_model()(torch.zeros(1, 24, 24, dtype=torch.int64))[0, :, 10:14, 10:14]
    assert (logits - logits[:, :1, :1]).flatten(1)[:, 1:].abs().amax(0).min() > 1e-6


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_first_loss_is_about_log_k(condition: str, symmetry: str) -> None:
    torch.manual_seed(0)
    model = PixelCNN(512, hidden=32, layers=15, condition=condition, symmetry=symmetry)
    codes = torch.randint(512, (4, 8, 8))
    with torch.no_grad():
        loss = F.cross_entropy(model(codes, **build_conditions(condition, 4)), codes)
    assert loss.item() == pytest.approx(math.log(512), abs=0.05)


@pytest.mark.parametrize("D", [3, 8, 40])
def test_codes_that_look_alike_start_alike(D: int) -> None:
    torch.manual_seed(0)
    model = PixelCNN(32, hidden=16, layers=2)
    codebook = torch.randn(32, D, generator=torch.Generator().manual_seed(0)) * 5 + 3
    model.start_from_codebook(codebook)
    among_codes = torch.cdist(codebook, codebook).flatten()
    for weight, std in (model.embedding.weight, 1.0), (model.head[-1].weight, 0.01):
        assert weight.std().item() == pytest.approx(std, rel=0.2)
        distances = torch.cdist(weight.detach(), weight.detach()).flatten()
        # As many dimensions as the codebook has keep all distances; fewer keep what they can.
        likeness = torch.corrcoef(torch.stack([among_codes, distances]))[0, 1].item()
        assert likeness > (0.9999 if weight.shape[1] >= D else 0.7)
    codes = torch.randint(32, (4, 6, 6))
    assert F.cross_entropy(model(codes), codes).item() == pytest.approx(math.log(32), rel=0.05)


def test_a_codebook_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"codebook: found shape \(16, 4\); expected \(32, D\)"):
        PixelCNN(32, hidden=8, layers=1).start_from_codebook(torch.randn(16, 4))


def test_a_codebook_of_equal_vectors_starts_from_zero_not_from_nan() -> None:
    model = PixelCNN(32, hidden=8, layers=1)
    model.start_from_codebook(torch.ones(32, 4))
    assert model.embedding.weight.isfinite().all()


def test_learns_maps_by_heart() -> None:
    torch.manual_seed(0)
    codes = torch.randint(8, (4, 6, 5))
    model = PixelCNN(8, hidden=24, layers=3, condition="label")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        loss = F.cross_entropy(model(codes, label=torch.arange(4)), codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert torch.equal(model.sample(4, (6, 5), temperature=0, label=torch.arange(4)), codes)


def test_symmetry_lets_the_lower_half_follow_the_upper() -> None:
    """Codes at random above, the same mirrored below: nothing but the rows across can foretell them."""
    torch.manual_seed(0)
    model = PixelCNN(8, hidden=24, layers=2, kernel=3, symmetry="rows")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        upper = torch.randint(8, (8, 6, 5))
        codes = torch.cat([upper, upper.flip(1)], dim=1)
        loss = F.cross_entropy(model(codes)[:, :, 6:], codes[:, 6:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    drawn = model.sample(4, (12, 5), temperature=0.2)
    assert torch.equal(drawn[:, 6:], drawn[:, :6].flip(1))


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_dropout_only_in_training(symmetry: str) -> None:
    model = build_model(dropout=0.5, symmetry=symmetry)
    codes = torch.randint(CODES, (1, 4, 4))
    assert torch.equal(model(codes), model(codes))
    model.train()
    assert not torch.equal(model(codes), model(codes))


@pytest.mark.parametrize(
    ("condition", "given", "named"),
    [
        ("label", {}, "label"),
        ("label+slice", {"label": torch.tensor([0, 1])}, "slice"),
        ("none", {"slice": torch.tensor([0, 1])}, "slice"),
        ("label", {"label": torch.tensor([0, LABELS])}, str(LABELS)),
        ("slice", {"slice": torch.tensor([-1, 0])}, "-1"),
        ("slice", {"slice": torch.tensor([1])}, "shape"),
        ("slice", {"slice": torch.tensor([0.0, 1.0])}, "float32"),
    ],
)
def test_bad_conditions_are_refused(condition: str, given: dict[str, Tensor], named: str) -> None:
    with pytest.raises(UserError, match=named):
        build_model(condition=condition)(torch.zeros(2, 3, 3, dtype=torch.int64), **given)


def test_bad_arguments_are_named_together() -> None:
    with pytest.raises(UserError) as error:
        PixelCNN(0, kernel=4, dropout=1.0, condition="sex", symmetry="columns")
    assert [problem.where for problem in error.value.problems] == [
        "num_codes",
        "kernel",
        "dropout",
        "condition",
        "symmetry",
    ]


def test_config_rebuilds_the_model() -> None:
    model = build_model(condition="slice", kernel=3, layers=3, symmetry="rows")
    rebuilt = PixelCNN(**model.config).double().eval()
    rebuilt.load_state_dict(model.state_dict())
    codes = torch.randint(CODES, (2, 3, 5))
    assert torch.equal(rebuilt(codes, slice=torch.tensor([1, 8])), model(codes, slice=torch.tensor([1, 8])))
