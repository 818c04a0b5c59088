"""A VQ-VAE and a prior that are trained on healthy synthetic brains find and remove planted lesions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.lesions import draw_brain, plant_lesion

from vqdist.inference.anomaly.maps import compute_excess, compute_score, enlarge
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.prior_draws import Condition, draw_slices
from vqdist.inference.anomaly.reference import HealthyReference, HealthySlice
from vqdist.inference.anomaly.restoration import compare, compute_parts, list_shifts, restore, shift_back
from vqdist.inference.prior_and_vqvae import PriorAndVQVAE
from vqdist.inference.sampling import draw_noise
from vqdist.inference.scoring import SliceSet
from vqdist.inference.slice_source import SliceInfo, SliceSource
from vqdist.metrics.detection import build_curve, measure_detection
from vqdist.models.map_conditions import UNKNOWN_NUMBER, MapConditions
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

NUMBERS = (10, 12, 14, 16)
METHOD = ScoringMethod(restorations=6, draws=24)
LIMIT = 5.0


def stack(subjects: range) -> torch.Tensor:
    brains = [draw_brain(subject, number) for subject in subjects for number in NUMBERS]
    return torch.from_numpy(np.stack(brains))[:, None].float() / 255


def train(model: torch.nn.Module, images: torch.Tensor, steps: int, lr: float, loss_of: object) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step in range(steps):
        chosen = torch.randint(len(images), (16,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss_of(images[chosen]).backward()
        optimizer.step()


@pytest.fixture(scope="module")
def models() -> PriorAndVQVAE:
    """Models of the healthy brains of 40 subjects."""
    torch.manual_seed(0)
    images = stack(range(40))
    keys = {"hidden": 24, "residual_hidden": 12, "residual_layers": 1, "downsample": 4, "code_dim": 8, "num_codes": 32}
    vqvae = VQVAE(1, **keys, restart_every=10, ema_decay=0.9)
    train(vqvae, images, 250, 3e-3, lambda batch: vqvae(batch).losses["loss"].mean())
    codes = vqvae.eval().encode(images)
    prior = PixelCNN(32, hidden=24, layers=3, kernel=3)
    train(prior, codes, 250, 4e-3, lambda batch: F.cross_entropy(prior(batch), batch))
    return PriorAndVQVAE(prior.eval(), vqvae, 32)


def compute(models: PriorAndVQVAE, images: torch.Tensor) -> list:
    noise = draw_noise(range(METHOD.restorations), 64, 32, 0)
    references = [draw_slices(models, Condition(None, None), METHOD.draws, 0).images] * len(images)
    with torch.inference_mode():
        limits = torch.full((len(images),), LIMIT)
        return compute_parts(models, images, limits, MapConditions(), noise, references, METHOD)


def test_lesions_are_found_and_removed(models: PriorAndVQVAE) -> None:
    healthy = stack(range(40, 46))
    planted = [plant_lesion((image[0].numpy() * 255).astype(np.uint8), seed, value=250 if seed % 2 else 15, radius=3)
               for seed, image in enumerate(healthy)]  # fmt: skip
    images = torch.from_numpy(np.stack([image for image, _ in planted]))[:, None].float() / 255
    truth = torch.from_numpy(np.stack([mask for _, mask in planted]))
    usual = compute(models, healthy)
    slices = [HealthySlice(str(index), None, part.signals, part.brain) for index, part in enumerate(usual)]
    reference, found = HealthyReference(slices, METHOD), compute(models, images)
    subjects = [str(index) for index in range(len(found))]
    excess = [
        compute_excess(part.signals, part.brain, reference.statistics(None, without=subject), METHOD)
        for part, subject in zip(found, subjects, strict=True)
    ]
    inside = torch.stack([part.brain for part in found])
    detection = measure_detection(build_curve(torch.stack(excess)[inside].numpy(), truth[inside].numpy()))
    assert detection.auroc > 0.85
    assert detection.ap > 5 * float(truth[inside].float().mean())
    restored = torch.stack([part.restored for part in found])[:, 0]
    dark_or_bright = (images[:, 0] - healthy[:, 0])[truth].abs() > 0.3
    error_before = (images[:, 0] - healthy[:, 0])[truth][dark_or_bright].abs().mean()
    assert (restored - healthy[:, 0])[truth][dark_or_bright].abs().mean() < 0.7 * error_before
    scores = [compute_score(values, part.brain, METHOD) for values, part in zip(excess, found, strict=True)]
    own = []
    for part in slices:
        usual_there = reference.statistics(None, without=part.subject)
        own.append(compute_score(compute_excess(part.signals, part.brain, usual_there, METHOD), part.brain, METHOD))
    assert np.mean([a > b for a, b in zip(scores, own, strict=True)]) >= 0.8


def test_a_slice_does_not_depend_on_the_others(models: PriorAndVQVAE) -> None:
    images = stack(range(46, 47))
    together, alone = compute(models, images)[2], compute(models, images[2:3])[0]
    torch.testing.assert_close(together.bits, alone.bits, atol=1e-4, rtol=0)
    for first, second in zip(together.signals, alone.signals, strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=0)


def test_shifted_copies_return_to_their_place() -> None:
    views = list_shifts(8, ScoringMethod(shifts=2))
    assert [(view.down, view.right) for view in views] == [(0, 0), (0, -4), (-4, 0), (-4, -4)]
    assert len(list_shifts(4, ScoringMethod(shifts=1))) == 1
    assert len(list_shifts(1, ScoringMethod(shifts=2))) == 1  # no shift by less than a pixel
    image = F.pad(torch.rand(1, 16, 16), (8,) * 4)
    moved = torch.stack([view.apply(image) for view in views] * 2)
    assert torch.equal(shift_back(moved, views), image.expand(8, 1, 32, 32))
    assert not torch.equal(moved[1], image)


def test_restorations_are_those_of_the_prior_for_each_shifted_copy(models: PriorAndVQVAE) -> None:
    codes = torch.randint(32, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0))  # 2 copies of 3 slices
    noise, limits = draw_noise(range(5), 64, 32, 1), torch.tensor([2.0, 4.0, 6.0])
    restored, bits = restore(models, codes, limits, MapConditions(), noise, METHOD)
    assert restored.shape == (3, 5, 8, 8)
    for index in range(3):
        for number in range(5):
            expected, cost = models.prior.restore_with_bits(
                codes[number % 2, index][None], float(limits[index]), noise[number][None]
            )
            assert torch.equal(restored[index, number], expected[0])
            assert float(bits[index, number]) == pytest.approx(float(cost.sum()), rel=1e-4)


def test_the_bits_of_shifted_copies_are_averaged(models: PriorAndVQVAE) -> None:
    images = stack(range(47, 48))[:1]
    views = list_shifts(4, METHOD)
    expected = torch.zeros(32, 32)
    for view in views:
        bits = models.count_bits(models.vqvae.encode(view.apply(images[0])[None]), MapConditions())
        expected += shift_back(enlarge(bits[0], 32)[None, None], [view])[0, 0] / len(views)
    torch.testing.assert_close(compute(models, images)[0].signals.bits, expected, atol=1e-4, rtol=0)


def test_restorations_count_by_their_likelihood() -> None:
    image, restored = torch.zeros(1, 8, 8), torch.stack([torch.full((1, 8, 8), 0.2), torch.full((1, 8, 8), 0.8)])
    equal = compare(image, image[None], restored, torch.tensor([2.0, 2.0]), METHOD)
    torch.testing.assert_close(equal, torch.full((8, 8), 0.5))
    first = compare(image, image[None], restored, torch.tensor([0.0, 99.0]), METHOD)
    torch.testing.assert_close(first, torch.full((8, 8), 0.2))
    with_recon = compare(image, image[None] + 0.2, restored, torch.tensor([0.0, 99.0]), METHOD)
    torch.testing.assert_close(with_recon, torch.full((8, 8), 0.1))
    per_copy = compare(image, torch.stack([image, image + 0.8]), restored, torch.tensor([2.0, 2.0]), METHOD)
    torch.testing.assert_close(per_copy, torch.full((8, 8), (0.2 + 0.2 + 0.8 + 0.0) / 4))


def test_draws_are_those_of_the_prior(models: PriorAndVQVAE) -> None:
    draws = draw_slices(models, Condition(None, None), 20, 3)
    maps = models.prior.sample(20, (8, 8), draw_noise(range(20), 64, 32, 3))
    torch.testing.assert_close(draws.images / 255, models.vqvae.decode(maps), atol=0.6 / 255, rtol=0)
    assert 64 <= len(draws.bits) <= 20 * 64


def test_draws_of_neighbouring_slice_numbers_stay_in_range() -> None:
    torch.manual_seed(0)
    vqvae = VQVAE(1, hidden=4, residual_hidden=2, downsample=4, code_dim=4, num_codes=8).eval()
    prior = PixelCNN(8, hidden=4, layers=1, condition="label+slice", num_labels=2, num_slices=3).eval()
    models = PriorAndVQVAE(prior, vqvae, 16)
    for number in (0, 2):
        assert draw_slices(models, Condition(1, number), 5, 0).images.shape == (5, 1, 16, 16)


def test_draws_of_an_unknown_slice_number_have_none() -> None:
    torch.manual_seed(0)
    vqvae = VQVAE(1, hidden=4, residual_hidden=2, downsample=4, code_dim=4, num_codes=8).eval()
    hides = {"condition": "slice", "num_slices": 30, "condition_dropout": 0.1}
    prior = PixelCNN(8, hidden=4, layers=1, **hides).eval()
    unknown = MapConditions(slice=torch.tensor([UNKNOWN_NUMBER]))
    condition = Condition.of(unknown, 0)
    assert condition.number is None
    draws = draw_slices(PriorAndVQVAE(prior, vqvae, 16), condition, 5, 0)
    maps = prior.sample(5, (4, 4), draw_noise(range(5), 16, 8, 0), conditions=unknown.repeat(5))
    torch.testing.assert_close(draws.images / 255, vqvae.decode(maps), atol=0.6 / 255, rtol=0)
    info = SliceInfo("a", "a.png", "a")
    assert (
        SliceSet(SliceSource((info,), read=lambda number: np.zeros((1, 16, 16), np.uint8)), unknown).number(0) is None
    )
