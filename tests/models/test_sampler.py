"""The cached sampler gives the codes of a forward pass over the whole map for each code."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vqdist.config.condition_key import CONDITION_WORDS
from vqdist.foundation.errors import UserError
from vqdist.models.map_conditions import MapConditions
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.sampler import sample_codes
from vqdist.models.sampler_cache import SamplerCache
from vqdist.models.sampling_options import SamplingOptions

LABELS, SLICES = 4, 9
CONDITIONS = CONDITION_WORDS
SYMMETRIES = ("none", "up-down")


def build_model(num_codes: int = 11, **keys: object) -> PixelCNN:
    torch.manual_seed(0)
    arguments = {"hidden": 6, "layers": 3, "num_labels": LABELS, "num_slices": SLICES, **keys}
    model = PixelCNN(num_codes, **arguments).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def build_conditions(condition: str, num: int) -> dict[str, Tensor]:
    values = {"label": torch.arange(num) % LABELS, "slice": torch.arange(num) % SLICES}
    return {name: value for name, value in values.items() if name in condition}


def build_noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return -torch.rand(shape, generator=generator, dtype=dtype).log().neg().log()


@torch.no_grad()
def sample_naively(
    model: PixelCNN, grid: tuple[int, int], noise: Tensor, temperature: float, top_k: int, **given: Tensor
) -> Tensor:
    """Return codes sampled with a forward pass over the whole map for each code."""
    codes = torch.zeros(noise.shape[0], *grid, dtype=torch.int64)
    for position in range(noise.shape[1]):
        y, x = divmod(position, grid[1])
        logits = model(codes, **given)[:, :, y, x]
        if top_k:
            floor = logits.sort(dim=1, descending=True).values[:, top_k - 1 : top_k]
            logits = logits.masked_fill(logits < floor, -torch.inf)
        scores = logits if temperature == 0 else logits / temperature + noise[:, position]
        codes[:, y, x] = scores.argmax(dim=1)
    return codes


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.0, 0), (0.7, 0), (1.3, 3), (1.0, 1), (1.0, 11)])
def test_codes_equal_those_of_the_naive_sampler(condition: str, temperature: float, top_k: int) -> None:
    model = build_model(condition=condition).double()
    noise, given = build_noise(3, 5 * 7, 11), build_conditions(condition, 3)
    codes = model.sample(3, (5, 7), noise, temperature, top_k, **given)
    assert torch.equal(codes, sample_naively(model, (5, 7), noise, temperature, top_k, **given))


@pytest.mark.parametrize("grid", [(1, 1), (1, 6), (6, 1), (2, 2), (12, 12), (3, 8), (7, 4)])
@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (1, 5), (2, 7), (5, 5)])
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_any_grid_and_depth(grid: tuple[int, int], layers: int, kernel: int, symmetry: str) -> None:
    model = build_model(layers=layers, kernel=kernel, symmetry=symmetry).double()
    noise = build_noise(2, grid[0] * grid[1], 11)
    assert torch.equal(model.sample(2, grid, noise), sample_naively(model, grid, noise, 1.0, 0))


@dataclass(frozen=True)
class Replay(SamplingOptions):
    """Chooses given codes and records the logits that they would have been sampled from."""

    codes: Tensor | None = None
    seen: list[Tensor] | None = None

    def choose(self, logits: Tensor, noise: Tensor) -> Tensor:
        self.seen.append(logits.clone())
        return self.codes.flatten(1)[:, len(self.seen) - 1]


@pytest.mark.parametrize(("hidden", "symmetry"), [(64, "none"), (20, "none"), (64, "up-down")])
def test_cached_logits_in_fp32_are_those_of_forward(hidden: int, symmetry: str) -> None:
    model = build_model(512, hidden=hidden, layers=15, condition="slice", symmetry=symmetry)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=hidden**-0.5)
    codes, slices = torch.randint(512, (2, 6, 9)), torch.tensor([2, 7])
    options = Replay(codes=codes, seen=[])
    assert torch.equal(sample_codes(model, 2, (6, 9), options, MapConditions(slice=slices)), codes)
    with torch.no_grad():
        logits = model(codes, slice=slices).flatten(2)
    assert logits.std() > 1
    assert (torch.stack(options.seen, dim=2) - logits).abs().max() < 1e-4


def test_without_noise_codes_follow_the_softmax() -> None:
    model = build_model(5, layers=1).double()
    codes = model.sample(20_000, (1, 2))
    with torch.no_grad():
        probabilities = model(torch.zeros(1, 1, 2, dtype=torch.int64)).softmax(1)[0, :, 0, 0]
    shares = torch.bincount(codes[:, 0, 0], minlength=5) / 20_000
    assert (shares - probabilities).abs().max() < 0.015
    assert len(codes.unique(dim=0)) > 5


def test_one_condition_applies_to_all_maps() -> None:
    model = build_model(condition="label+slice").double()
    noise = build_noise(2, 12, 11)
    one = model.sample(2, (3, 4), noise, label=3, slice=8)
    many = model.sample(2, (3, 4), noise, label=torch.tensor([3, 3]), slice=torch.tensor([8, 8]))
    assert torch.equal(one, many)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_sampling_does_not_change_the_model_and_ignores_dropout(symmetry: str) -> None:
    model = build_model(dropout=0.9, symmetry=symmetry).double()
    noise = build_noise(2, 12, 11)
    in_eval = model.sample(2, (3, 4), noise)
    model.train()
    in_training = model.sample(2, (3, 4), noise)
    assert model.training
    assert torch.equal(in_training, in_eval)
    model(in_training).sum().backward()  # the codes are ordinary tensors


def test_codes_of_a_map_do_not_depend_on_the_others() -> None:
    model = build_model().double()
    noise = build_noise(5, 12, 11)
    assert torch.equal(model.sample(5, (3, 4), noise)[3:4], model.sample(1, (3, 4), noise[3:4]))


def test_autocast_does_not_change_the_codes() -> None:
    model, noise = build_model(), build_noise(2, 12, 11, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.sample(2, (3, 4), noise)
    assert torch.equal(inside, model.sample(2, (3, 4), noise))


def test_no_maps() -> None:
    assert build_model().sample(0, (3, 4)).shape == (0, 3, 4)


def test_the_cache_does_not_grow_with_the_height_of_the_map() -> None:
    cache = SamplerCache(build_model(layers=4, hidden=8), num=2, w=16)
    held = [getattr(layer, name).numel() for layer in cache.layers for name in ("ring", "left", "features")]
    assert sum(held) <= 4 * 2 * 16 * 8 * 8  # eight rows per layer


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num": -1}, "num"),
        ({"grid": (0, 4)}, "grid"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 12}, "top_k"),
        ({"noise": torch.zeros(2, 3, 11)}, "noise"),
        ({"label": 1}, "label"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        build_model().sample(**{"num": 2, "grid": (3, 4), **arguments})


def test_conditions_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="found 9"):
        build_model(condition="slice").sample(2, (3, 4), slice=9)
