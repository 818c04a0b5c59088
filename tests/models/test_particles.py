"""Completions with particles: the filter is that of full forward passes, and its draws follow the exact posterior."""

import math

import pytest
import torch
from torch import Tensor

from vqdist.config.condition_key import CONDITION_WORDS
from vqdist.foundation.errors import UserError
from vqdist.models.particles import resample
from vqdist.models.pixelcnn import PixelCNN

K, GRID = 5, (6, 5)
SYMMETRIES = ("none", "up-down")
HOLES = [(0, 2, 0, 2), (1, 4, 1, 3), (2, 6, 0, 5), (0, 6, 1, 2), (5, 6, 4, 5), (0, 6, 0, 5)]


def build_model(num_codes: int = K, **keys: object) -> PixelCNN:
    """Build a model whose codes depend strongly on each other."""
    arguments = {"hidden": 6, "layers": 2, "kernel": 3, "num_labels": 4, "num_slices": 9, **keys}
    model = PixelCNN(num_codes, **arguments).double().eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.nn.init.normal_(model.embedding.weight, std=4)
    return model


def build_noise(*shape: int) -> Tensor:
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return -uniform.log().neg().log()


def build_codes(*shape: int, seed: int = 6) -> Tensor:
    return torch.randint(K, shape, generator=torch.Generator().manual_seed(seed))


def build_keep(hole: tuple[int, ...], num: int) -> Tensor:
    """Return masks (num, h, w) that are not all the same: the last map has one place more."""
    top, bottom, left, right = hole
    keep = torch.ones(num, *GRID, dtype=torch.bool)
    keep[:, top:bottom, left:right] = False
    keep[-1, 3, 2] = False
    return keep


@torch.no_grad()
def filter_naively(
    model: PixelCNN, codes: Tensor, keep: Tensor, noise: Tensor, temperature: float, **known: Tensor
) -> tuple[Tensor, int]:
    """Return one of N particles of a map (h, w), by a forward pass for each code, and how often they were resampled.

    Args:
        noise: (N, h * w, K).
    """
    N, (h, w) = len(noise), codes.shape
    maps, log_weights, resamplings = codes.repeat(N, 1, 1), torch.zeros(N, dtype=torch.float64), 0
    hole = (~keep).flatten().nonzero()[:, 0].tolist()
    behind = [place for place in range(h * w) if keep.flatten()[place] and hole and place > hole[0]]
    for y in range(h):
        places = [place for place in behind if place // w == y]
        for x in range(w):
            logits = model(maps, **known)[:, :, y, x]
            if keep[y, x] and y * w + x in places:
                log_weights += logits.log_softmax(1).gather(1, maps[:, y, x, None])[:, 0]
            elif not keep[y, x]:
                maps[:, y, x] = (logits / temperature + noise[:, y * w + x]).argmax(dim=1)
        shares = log_weights.softmax(0)
        is_last = not behind or y == behind[-1] // w
        if places and y < hole[-1] // w and not is_last and 1 / shares.square().sum() < N / 2:
            uniform = noise[0, places[-1], 0].neg().exp().neg().exp()
            ends = shares.cumsum(0)
            maps = maps[[int((ends <= (n + uniform) / N).sum()) for n in range(N)]]
            log_weights, resamplings = torch.zeros_like(log_weights), resamplings + 1
    return maps[(log_weights + (noise[:, behind[-1], 0] if behind else 0)).argmax()], resamplings


@pytest.mark.parametrize("keys", [{"condition": word} for word in CONDITION_WORDS] + [{"context": "previous"}], ids=str)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_the_filter_is_that_of_full_forwards(keys: dict[str, str], symmetry: str) -> None:
    model, N, total = build_model(symmetry=symmetry, **keys), 6, 0
    model.head[3].weight.data.mul_(4)  # uneven weights; the temperature keeps the particles different
    values = {"label": torch.tensor([2, 3]), "slice": torch.tensor([0, 7]), "previous": build_codes(2, *GRID, seed=7)}
    given = {name: value for name, value in values.items() if name in " ".join(keys.values())}
    codes, noise = build_codes(2, *GRID), build_noise(2 * N, GRID[0] * GRID[1], K)
    for hole in HOLES:
        keep = build_keep(hole, 2)
        completed = model.complete(codes, keep, noise, 10.0, particles=N, **given)
        assert torch.equal(completed[keep], codes[keep])
        for number, own in enumerate(noise.split(N)):
            known = {name: value[number : number + 1].repeat_interleave(N, 0) for name, value in given.items()}
            expected, resamplings = filter_naively(model, codes[number], keep[number], own, 10.0, **known)
            assert torch.equal(completed[number], expected), hole
            total += resamplings
    assert total > 2, "a test without resampling"


def find_posterior(model: PixelCNN, codes: Tensor, keep: Tensor) -> Tensor:
    """Return the probabilities of all fillings of a map (h, w) given its kept codes, in the order of their numbers."""
    fillings = torch.cartesian_prod(*[torch.arange(model.num_codes)] * int((~keep).sum()))
    maps = codes.repeat(len(fillings), 1, 1)
    maps[:, ~keep] = fillings
    return (-model.bits(maps).sum(dim=(1, 2)) * math.log(2)).softmax(0)


@pytest.mark.parametrize("hole", [(0, 1, 0, 2), (0, 2, 1, 2), (0, 2, 0, 1)])
def test_draws_follow_the_posterior(hole: tuple[int, ...]) -> None:
    model, draws = build_model(3), 4000
    torch.manual_seed(1)
    codes, keep = torch.tensor([[2, 2, 2], [0, 1, 0]]), torch.ones(2, 3, dtype=torch.bool)
    keep[hole[0] : hole[1], hole[2] : hole[3]] = False
    expected = find_posterior(model, codes, keep)

    def measure_distance(particles: int) -> float:
        same = draws, 2, 3
        completed = model.complete(codes.expand(same), keep.expand(same), particles=particles)
        numbers = (completed[:, ~keep] * torch.tensor([3, 1])).sum(1)
        return float((torch.bincount(numbers, minlength=9) / draws - expected).abs().sum() / 2)

    assert measure_distance(32) < 0.035
    assert measure_distance(1) > 0.08, "the codes before the hole alone decide"


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_one_particle_is_a_completion_without_a_filter(symmetry: str) -> None:
    model = build_model(symmetry=symmetry).float()
    codes, noise = build_codes(3, *GRID), build_noise(3, GRID[0] * GRID[1], K).float()
    keep = build_keep(HOLES[1], 3)
    assert torch.equal(model.complete(codes, keep, noise, particles=1), model.complete(codes, keep, noise))


def test_a_completion_does_not_depend_on_the_other_maps() -> None:
    model, N = build_model(), 4
    codes, noise, keep = build_codes(3, *GRID), build_noise(3 * N, GRID[0] * GRID[1], K), build_keep(HOLES[1], 3)
    together = model.complete(codes, keep, noise, particles=N)
    for number, own in enumerate(noise.split(N)):
        alone = model.complete(codes[[number]], keep[[number]], own, particles=N)
        assert torch.equal(alone[0], together[number])


def test_nothing_to_draw_and_no_maps() -> None:
    model, codes = build_model(), build_codes(2, *GRID)
    assert torch.equal(model.complete(codes, torch.ones_like(codes, dtype=torch.bool), particles=3), codes)
    assert model.complete(codes[:0], codes[:0].bool(), particles=3).shape == (0, *GRID)
    everything = torch.zeros_like(codes, dtype=torch.bool)
    assert model.complete(codes, everything, temperature=0, particles=3).shape == codes.shape


def test_systematic_resampling_rounds_the_shares() -> None:
    shares = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    uniforms = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    counts = torch.stack(
        [torch.bincount(resample(shares, uniform[None])[0], minlength=4) for uniform in uniforms]
    ).double()
    torch.testing.assert_close(counts.mean(dim=0), 4 * shares[0])
    assert ((counts - 4 * shares[0]).abs() < 1).all()


@pytest.mark.parametrize("particles", [0, 1.5])
def test_invalid_numbers_of_particles_are_refused(particles: float) -> None:
    codes = build_codes(2, *GRID)
    with pytest.raises(UserError, match="particles: found"):
        build_model().complete(codes, codes > 1, particles=particles)
    with pytest.raises(UserError, match="noise: found"):
        build_model().complete(codes, codes > 1, build_noise(2, 30, K), particles=3)
