"""Completion, restoration and bits are those of a forward pass over the whole map for each code."""

import math

import pytest
import torch
from torch import Tensor

from vqdist.config.condition_key import CONDITION_WORDS
from vqdist.foundation.errors import UserError
from vqdist.models.given_codes import GivenCodes
from vqdist.models.pixelcnn import PixelCNN

LABELS, SLICES, K = 4, 9, 11
CONDITIONS = CONDITION_WORDS
SYMMETRIES = ("none", "up-down")
GRIDS = [(1, 1), (1, 6), (6, 1), (2, 2), (7, 4), (9, 12)]


def build_model(**keys: object) -> PixelCNN:
    torch.manual_seed(0)
    arguments = {"hidden": 6, "layers": 3, "kernel": 3, "num_labels": LABELS, "num_slices": SLICES, **keys}
    model = PixelCNN(K, **arguments).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def build_conditions(condition: str, num: int) -> dict[str, Tensor]:
    values = {"label": torch.arange(num) % LABELS, "slice": torch.arange(num) % SLICES}
    return {name: value for name, value in values.items() if name in condition}


def build_noise(num: int, size: int) -> Tensor:
    uniform = torch.rand(num, size, K, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return -uniform.log().neg().log()


def build_codes(num: int, grid: tuple[int, int]) -> Tensor:
    return torch.randint(K, (num, *grid), generator=torch.Generator().manual_seed(6))


def build_limits(codes: Tensor) -> Tensor:
    """Return limits of which some are inf, some -inf, and the others near the bits of a uniform distribution."""
    limits = torch.rand(codes.shape, generator=torch.Generator().manual_seed(7)) * 2 * math.log2(K)
    return torch.where(limits < 1.4, -math.inf, torch.where(limits > 5.5, math.inf, limits)).double()


@torch.no_grad()
def redraw_naively(
    model: PixelCNN, codes: Tensor, limits: Tensor, noise: Tensor, temperature: float, top_k: int, **given: Tensor
) -> Tensor:
    """Return codes of which each one above its limit is sampled by a forward pass over the whole map."""
    codes = codes.clone()
    for position in range(noise.shape[1]):
        y, x = divmod(position, codes.shape[2])
        logits = model(codes, **given)[:, :, y, x]
        bits = -logits.log_softmax(1).gather(1, codes[:, y, x, None])[:, 0] / math.log(2)
        if top_k:
            floor = logits.sort(dim=1, descending=True).values[:, top_k - 1 : top_k]
            logits = logits.masked_fill(logits < floor, -torch.inf)
        sampled = (logits if temperature == 0 else logits / temperature + noise[:, position]).argmax(dim=1)
        codes[:, y, x] = torch.where(bits > limits[:, y, x], sampled, codes[:, y, x])
    return codes


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.0, 0), (1.3, 3)])
def test_restored_codes_equal_those_of_full_forwards(
    condition: str, symmetry: str, temperature: float, top_k: int
) -> None:
    model, codes, noise = (
        build_model(condition=condition, symmetry=symmetry),
        build_codes(3, (6, 5)),
        build_noise(3, 30),
    )
    limits, given = build_limits(codes), build_conditions(condition, 3)
    restored = model.restore(codes, limits, noise, temperature, top_k, **given)
    assert torch.equal(restored, redraw_naively(model, codes, limits, noise, temperature, top_k, **given))
    assert (restored != codes).any()
    assert (restored == codes).any()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (2, 7)])
def test_any_grid_and_depth(grid: tuple[int, int], symmetry: str, layers: int, kernel: int) -> None:
    model, codes = build_model(symmetry=symmetry, layers=layers, kernel=kernel), build_codes(2, grid)
    noise, limits = build_noise(2, grid[0] * grid[1]), build_limits(codes)
    assert torch.equal(model.restore(codes, limits, noise), redraw_naively(model, codes, limits, noise, 1.0, 0))


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("hole", [(0, 2, 0, 2), (2, 4, 1, 4), (5, 8, 3, 6), (0, 8, 2, 3), (7, 8, 5, 6), (0, 8, 0, 6)])
def test_completions_equal_those_of_full_forwards(condition: str, symmetry: str, hole: tuple[int, ...]) -> None:
    model, codes, noise = (
        build_model(condition=condition, symmetry=symmetry),
        build_codes(2, (8, 6)),
        build_noise(2, 48),
    )
    top, bottom, left, right = hole
    keep = torch.ones(2, 8, 6, dtype=torch.bool)
    keep[0, top:bottom, left:right] = False  # the second map stays as it is
    limits, given = torch.where(keep, math.inf, -math.inf), build_conditions(condition, 2)
    completed = model.complete(codes, keep, noise, **given)
    assert torch.equal(completed, redraw_naively(model, codes, limits, noise, 1.0, 0, **given))
    assert torch.equal(completed[keep], codes[keep])


def test_a_completion_of_everything_is_a_sample() -> None:
    model, codes, noise = build_model(), build_codes(3, (6, 5)), build_noise(3, 30)
    assert torch.equal(
        model.complete(codes, torch.zeros(3, 6, 5, dtype=torch.bool), noise), model.sample(3, (6, 5), noise)
    )
    assert torch.equal(model.restore(codes, -math.inf, noise), model.sample(3, (6, 5), noise))


def test_a_limit_is_a_number_or_broadcasts() -> None:
    model, codes, noise = build_model(), build_codes(3, (6, 5)), build_noise(3, 30)
    number = model.restore(codes, 3.0, noise)
    assert torch.equal(number, model.restore(codes, torch.full((3, 1, 1), 3.0), noise))
    assert torch.equal(model.restore(codes, math.inf), codes)


def test_rows_without_a_hole_need_no_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, codes = build_model(), build_codes(2, (8, 6))
    keep = torch.ones(2, 8, 6, dtype=torch.bool)
    keep[:, 3:5, 1:3] = False
    calls: list[Tensor] = []
    model.head[3].register_forward_hook(lambda module, inputs, output: calls.append(output))
    model.complete(codes, keep)
    assert len(calls) == 2 * 3  # two rows, up to the end of the hole


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_bits_are_those_of_the_logits(condition: str, symmetry: str) -> None:
    model, codes = build_model(condition=condition, symmetry=symmetry), build_codes(3, (6, 5))
    given = build_conditions(condition, 3)
    with torch.no_grad():
        probabilities = model(codes, **given).softmax(dim=1)
    expected = -probabilities.gather(1, codes[:, None])[:, 0].log2()
    torch.testing.assert_close(model.bits(codes, **given), expected)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.7, 3)])
def test_a_restoration_returns_the_bits_of_its_codes(symmetry: str, temperature: float, top_k: int) -> None:
    model = build_model(symmetry=symmetry, condition="slice")
    codes, noise, slices = build_codes(3, (6, 5)), build_noise(3, 30), torch.tensor([0, 4, 8])
    limits = build_limits(codes)
    limits[:, 4:] = math.inf  # bits of rows that stay as they are, too
    restored, bits = model.restore_with_bits(codes, limits, noise, temperature, top_k, slice=slices)
    assert torch.equal(restored, model.restore(codes, limits, noise, temperature, top_k, slice=slices))
    torch.testing.assert_close(bits, model.bits(restored, slice=slices))


def test_probabilities_of_all_maps_sum_to_one() -> None:
    model = build_model()
    maps = torch.cartesian_prod(*[torch.arange(K)] * 3).reshape(-1, 1, 3)
    assert math.isclose(model.bits(maps).sum(dim=(1, 2)).neg().exp2().sum().item(), 1)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_dropout_and_autocast_change_nothing_and_the_mode_stays(symmetry: str) -> None:
    model, codes, noise = build_model(dropout=0.9, symmetry=symmetry), build_codes(2, (4, 5)), build_noise(2, 20)
    expected = model.bits(codes), model.restore(codes, 3.0, noise)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        found = model.bits(codes), model.restore(codes, 3.0, noise)
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_one_condition_applies_to_all_maps() -> None:
    model, codes = build_model(condition="label+slice"), build_codes(2, (4, 5))
    many = torch.tensor([3, 3]), torch.tensor([8, 8])
    assert torch.equal(model.bits(codes, 3, 8), model.bits(codes, *many))
    noise, keep = build_noise(2, 20), codes > 5
    one = model.complete(codes, keep, noise, label=3, slice=8)
    assert torch.equal(one, model.complete(codes, keep, noise, label=many[0], slice=many[1]))


def test_no_maps() -> None:
    none = torch.zeros(0, 3, 4, dtype=torch.int64)
    assert build_model().complete(none, none.bool()).shape == (0, 3, 4)
    assert build_model().bits(none).shape == (0, 3, 4)


def test_rows_end_with_the_last_code_that_may_change() -> None:
    keep = torch.ones(2, 4, 5, dtype=torch.bool)
    keep[1, 2, 3] = False
    rows = GivenCodes.from_mask(torch.zeros(2, 4, 5, dtype=torch.int64), keep, num_codes=1).list_rows(
        torch.device("cpu")
    )
    assert [row.end for row in rows] == [0, 0, 4]
    assert not any(any(row.needs_bits) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"codes": torch.zeros(2, 3, 4)}, "codes: found torch.float32"),
        ({"codes": torch.full((2, 3, 4), K)}, f"codes: found {K}; expected numbers in"),
        ({"keep": torch.zeros(2, 3, 4)}, "keep: found torch.float32"),
        ({"keep": torch.zeros(2, 3, 5, dtype=torch.bool)}, "keep: found"),
        ({"temperature": -1.0}, "temperature"),
        ({"noise": torch.zeros(2, 3, K)}, "noise"),
        ({"label": 1}, "label"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict, named: str) -> None:
    given = {"codes": torch.zeros(2, 3, 4, dtype=torch.int64), "keep": torch.zeros(2, 3, 4, dtype=torch.bool)}
    with pytest.raises(UserError, match=named.replace("[", "\\[")):
        build_model().complete(**given | arguments)


def test_limits_of_another_shape_and_missing_conditions_are_refused() -> None:
    codes = torch.zeros(2, 3, 4, dtype=torch.int64)
    with pytest.raises(UserError, match="max_bits: found shape"):
        build_model().restore(codes, torch.zeros(3, 3, 4))
    with pytest.raises(UserError, match="slice: found none"):
        build_model(condition="slice").bits(codes)
