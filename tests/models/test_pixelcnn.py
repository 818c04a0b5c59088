"""The gated PixelCNN: causality, field of view, conditions, initialisation, training, validation of arguments."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.config.condition_key import CONDITION_WORDS
from vqdist.foundation.errors import ConfigError, UserError
from vqdist.models.pixelcnn import PixelCNN

CODES, LABELS, SLICES = 3, 4, 9
CONDITIONS = CONDITION_WORDS
SYMMETRIES = ("none", "up-down")


def build_model(**keys: object) -> PixelCNN:
    """Return a float64 model in eval mode with large random weights."""
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
    """Return (h * w, h * w) bool: whether the logits of a position (row) depend on a code (column)."""
    conditions = build_conditions(model.condition, 1)
    codes = torch.zeros(1, h, w, dtype=torch.int64)

    def compute_logits(embedded: Tensor) -> Tensor:
        with model.embedding.register_forward_hook(lambda *_: embedded):
            return model(codes, **conditions)[0]

    embedded = torch.randn(1, h, w, model.config["hidden"], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(compute_logits, embedded, vectorize=True)
    return (jacobian != 0).any(0).any(-1).reshape(h * w, h * w)  # from (K, h, w, 1, h, w, C)


def expected_reach(h: int, w: int, reach: int) -> Tensor:
    """Return the codes that the logits must depend on: all codes before it within reach of the kernels."""
    expected = torch.zeros(h, w, h, w, dtype=torch.bool)
    for y in range(h):
        for x in range(w):
            start = max(0, x - reach)
            expected[y, x, max(0, y - reach) : y, start : x + reach + 1] = True
            expected[y, x, y, start:x] = True
    return expected.reshape(h * w, h * w)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 15])
def test_logits_depend_on_exactly_the_codes_before(layers: int, condition: str) -> None:
    model = build_model(layers=layers, condition=condition)
    assert torch.equal(compute_reach(model, 4, 6), expected_reach(4, 6, 2 * layers))


@pytest.mark.parametrize("layers", range(1, 16))
def test_logits_depend_on_exactly_the_codes_before_for_any_depth(layers: int) -> None:
    assert torch.equal(compute_reach(build_model(layers=layers), 5, 3), expected_reach(5, 3, 2 * layers))


@pytest.mark.parametrize(("kernel", "layers"), [(3, 1), (3, 2), (3, 3), (7, 1), (7, 2), (5, 1)])
def test_the_field_of_view_ends_where_the_kernels_end(kernel: int, layers: int) -> None:
    reach = layers * (kernel // 2)
    assert torch.equal(compute_reach(build_model(kernel=kernel, layers=layers), 5, 8), expected_reach(5, 8, reach))


@pytest.mark.parametrize(("h", "w"), [(1, 4), (2, 5), (3, 3), (9, 2), (10, 3), (4, 9)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_mirrored_rows_are_seen_within_reach_of_two_kernels(h: int, w: int, kernel: int) -> None:
    reach = kernel // 2
    expected = expected_reach(h, w, reach).reshape(h, w, h, w)
    for y in range(h - h // 2, h):
        for x in range(w):
            across, columns = h - 1 - y, slice(max(0, x - 2 * reach), x + 2 * reach + 1)
            expected[y, x, max(0, across - 2 * reach) : min(h // 2, across + 2 * reach + 1), columns] = True
    model = build_model(layers=1, kernel=kernel, symmetry="up-down")
    assert torch.equal(compute_reach(model, h, w), expected.reshape(h * w, h * w))


@pytest.mark.parametrize("layers", [2, 3, 15])
def test_mirrored_rows_hold_no_later_codes(layers: int) -> None:
    reached = compute_reach(build_model(layers=layers, symmetry="up-down", condition="slice"), 5, 4)
    assert not reached.triu().any()


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_later_codes_do_not_change_earlier_logits(symmetry: str) -> None:
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
    unused = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("condition", ["label", "slice", "label+slice"])
def test_conditions_change_only_the_logits_of_their_map(condition: str) -> None:
    model = build_model(condition=condition)
    codes = torch.randint(CODES, (2, 3, 4))
    given = build_conditions(condition, 2)
    before = model(codes, **given)
    for name in given:
        changed = {**given, name: given[name] + torch.tensor([0, 1])}
        after = model(codes, **changed)
        assert torch.equal(after[0], before[0])
        assert not torch.allclose(after[1], before[1])


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
def test_similar_codes_have_similar_initial_weights(D: int) -> None:
    torch.manual_seed(0)
    model = PixelCNN(32, hidden=16, layers=2)
    codebook = torch.randn(32, D, generator=torch.Generator().manual_seed(0)) * 5 + 3
    model.start_from_codebook(codebook)
    among_codes = torch.cdist(codebook, codebook).flatten()
    for weight, std in (model.embedding.weight, 1.0), (model.head[-1].weight, 0.01):
        assert weight.std().item() == pytest.approx(std, rel=0.2)
        distances = torch.cdist(weight.detach(), weight.detach()).flatten()
        # At least as many dimensions as the codebook keep all distances; fewer keep them approximately.
        correlation = torch.corrcoef(torch.stack([among_codes, distances]))[0, 1].item()
        assert correlation > (0.9999 if weight.shape[1] >= D else 0.7)
    codes = torch.randint(32, (4, 6, 6))
    assert F.cross_entropy(model(codes), codes).item() == pytest.approx(math.log(32), rel=0.05)


def test_a_codebook_with_another_number_of_codes_is_refused() -> None:
    with pytest.raises(UserError, match=r"codebook: found shape \(16, 4\); expected \(32, D\)"):
        PixelCNN(32, hidden=8, layers=1).start_from_codebook(torch.randn(16, 4))


def test_a_codebook_of_equal_vectors_gives_finite_weights() -> None:
    model = PixelCNN(32, hidden=8, layers=1)
    model.start_from_codebook(torch.ones(32, 4))
    assert model.embedding.weight.isfinite().all()


def test_it_overfits_a_batch() -> None:
    torch.manual_seed(0)
    codes = torch.randint(8, (4, 6, 5))
    model = PixelCNN(8, hidden=24, layers=3, condition="label")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(50):
        loss = F.cross_entropy(model(codes, label=torch.arange(4)), codes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert torch.equal(model.sample(4, (6, 5), temperature=0, label=torch.arange(4)), codes)


def test_symmetry_lets_the_lower_half_repeat_the_upper_half() -> None:
    """Random codes above, the same mirrored below: only the mirrored rows can predict the lower half."""
    torch.manual_seed(0)
    model = PixelCNN(8, hidden=24, layers=2, kernel=3, symmetry="up-down")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        upper = torch.randint(8, (8, 6, 5))
        codes = torch.cat([upper, upper.flip(1)], dim=1)
        loss = F.cross_entropy(model(codes)[:, :, 6:], codes[:, 6:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    sampled = model.sample(4, (12, 5), temperature=0.2)
    assert torch.equal(sampled[:, 6:], sampled[:, :6].flip(1))


def test_the_loss_is_the_mean_negative_log_likelihood() -> None:
    model, codes = build_model(condition="slice"), torch.randint(CODES, (2, 3, 5))
    slices = torch.tensor([1, 8])
    likelihoods = model(codes, slice=slices).softmax(1).gather(1, codes[:, None])
    torch.testing.assert_close(model.loss(codes, slice=slices), -likelihoods.log().mean().float())
    assert not model.loss(codes.int(), slice=slices).isnan()


def test_symmetry_is_saved_under_its_former_name_and_read_under_both() -> None:
    assert PixelCNN(CODES, symmetry="rows").config == PixelCNN(CODES, symmetry="up-down").config
    assert PixelCNN(CODES, symmetry="up-down").config["symmetry"] == "rows", "earlier versions read it"
    assert PixelCNN(CODES, symmetry="rows").opposite is not None
    with pytest.raises(ConfigError, match=r"model\.symmetry: found auto; expected none or up-down"):
        PixelCNN(CODES, symmetry="auto")


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
def test_invalid_conditions_are_refused(condition: str, given: dict[str, Tensor], named: str) -> None:
    with pytest.raises(UserError, match=named):
        build_model(condition=condition)(torch.zeros(2, 3, 3, dtype=torch.int64), **given)


def test_all_invalid_arguments_are_reported_together() -> None:
    with pytest.raises(ConfigError) as error:
        PixelCNN(0, kernel=4, dropout=1.0, condition="sex", symmetry="columns", num_labels=0, layer=3)
    invalid = {"num_codes", "kernel", "dropout", "condition", "symmetry", "num_labels", "layer"}
    assert {problem.where for problem in error.value.problems} == {f"model.{name}" for name in invalid}
    assert "model.layer: found an unknown key; expected a known key; did you mean layers?" in str(error.value)


def test_config_rebuilds_the_model() -> None:
    model = build_model(condition="slice", kernel=3, layers=3, symmetry="up-down")
    rebuilt = PixelCNN(**model.config).double().eval()
    rebuilt.load_state_dict(model.state_dict())
    codes = torch.randint(CODES, (2, 3, 5))
    assert torch.equal(rebuilt(codes, slice=torch.tensor([1, 8])), model(codes, slice=torch.tensor([1, 8])))
