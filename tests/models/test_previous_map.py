"""The previous slice as context of a PixelCNN: forward, sampling, completion and bits."""

import math

import pytest
import torch
from torch import Tensor

from vqdist.foundation.errors import UserError
from vqdist.models.map_conditions import NO_CODE
from vqdist.models.pixelcnn import PixelCNN

K, B, H, W = 7, 3, 5, 4


def build(**keys: object) -> PixelCNN:
    torch.manual_seed(0)
    model = PixelCNN(K, **({"hidden": 6, "layers": 2, "kernel": 3, "context": "previous"} | keys)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(K, shape, generator=torch.Generator().manual_seed(seed))


CODES, PREVIOUS = draw(B, H, W), draw(B, H, W, seed=2)
NOISE = -torch.log(-torch.log(torch.rand(B, H * W, K, generator=torch.Generator().manual_seed(3))))


def draw_by_forwards(model: PixelCNN, codes: Tensor, keep: Tensor, **known: Tensor) -> Tensor:
    """Draw the codes of some places with a forward pass over the whole map for each code."""
    codes = torch.where(keep, codes, 0)
    for place in range(H * W):
        y, x = divmod(place, W)
        drawn = (model(codes, **known)[:, :, y, x] + NOISE[:, place]).argmax(dim=1)
        codes[:, y, x] = torch.where(keep[:, y, x], codes[:, y, x], drawn)
    return codes


@pytest.mark.parametrize("symmetry", ["none", "up-down"])
def test_sampling_completion_and_bits_are_those_of_full_forwards(symmetry: str) -> None:
    model = build(symmetry=symmetry, condition="slice", num_slices=9)
    previous = PREVIOUS.clone()
    previous[1] = NO_CODE
    known = {"slice": torch.tensor([0, 4, 8]), "previous": previous}
    none = torch.zeros(B, H, W, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(model.sample(B, (H, W), NOISE, **known), draw_by_forwards(model, CODES, none, **known))
        keep = draw(B, H, W, seed=4) < K // 2
        completed = model.complete(CODES, keep, NOISE, **known)
        assert torch.equal(completed, draw_by_forwards(model, CODES, keep, **known))
        log_probabilities = model(CODES, **known).log_softmax(dim=1).gather(1, CODES[:, None])[:, 0]
        expected = -log_probabilities / math.log(2)
        torch.testing.assert_close(model.bits(CODES, **known), expected)
        restored, bits = model.restore_with_bits(CODES, torch.inf, NOISE, **known)
        assert torch.equal(restored, CODES)
        torch.testing.assert_close(bits, expected, rtol=1e-4, atol=1e-4)


def test_a_code_depends_on_all_places_around_it_in_the_previous_map() -> None:
    model = build()
    with torch.no_grad():
        before = model(CODES, previous=PREVIOUS)
        for place in ((0, 0), (2, 1), (H - 1, W - 1)):
            changed = PREVIOUS.clone()
            changed[:, place[0], place[1]] = (changed[:, place[0], place[1]] + 1) % K
            difference = (model(CODES, previous=changed) - before).abs().amax(dim=(0, 1))
            assert difference[place] > 1e-3
            assert difference.max() > 1e-3
        y, x = 2, 1
        changed = PREVIOUS.clone()
        changed[:, y, x] = (changed[:, y, x] + 1) % K
        difference = (model(CODES, previous=changed) - before).abs().amax(dim=(0, 1))
        assert difference[y - 1, x] > 1e-4  # also before it in raster order
        assert difference[y, x - 1] > 1e-4


def test_a_map_without_a_previous_one_is_the_same_alone() -> None:
    model = build()
    none = torch.full_like(PREVIOUS, NO_CODE)
    with torch.no_grad():
        expected = model(CODES)
        torch.testing.assert_close(model(CODES, previous=none), expected)
        mixed = torch.cat([none[:1], PREVIOUS[1:]])
        torch.testing.assert_close(model(CODES, previous=mixed)[:1], expected[:1])
        assert (model(CODES, previous=mixed)[1:] - expected[1:]).abs().max() > 1e-2
        torch.testing.assert_close(model.bits(CODES), model.bits(CODES, previous=none))
        assert torch.equal(model.sample(B, (H, W), NOISE), model.sample(B, (H, W), NOISE, previous=none))


def test_the_training_reaches_all_weights() -> None:
    model = build().train()
    previous = PREVIOUS.clone()
    previous[0] = NO_CODE
    model.loss(CODES, previous=previous).backward()
    assert model.previous is not None
    assert all(weight.grad is not None and weight.grad.any() for weight in model.previous.parameters())
    assert {id(weight) for weight in model.previous.parameters() if weight.ndim > 1} <= set(
        map(id, model.hidden_weights())
    )


def test_a_model_without_context_has_no_trace_of_it() -> None:
    model = build(context="none", context_noise=0.5)
    assert not [name for name in model.config if name.startswith("context")]  # earlier versions read the saved model
    assert build().config["context"] == "previous"
    assert not [name for name in model.state_dict() if name.startswith("previous")]


def test_wrong_previous_maps_are_refused() -> None:
    model = build()

    def fails_with(expected: str, previous: object, model: PixelCNN = model) -> None:
        with pytest.raises(UserError) as error:
            model(CODES, previous=previous)
        assert expected in str(error.value)

    alone = build(context="none")
    fails_with("previous: found maps; expected none, as the model was built with context none", PREVIOUS, alone)
    fails_with("previous: found maps of 4 x 4; expected maps of 5 x 4, the size of the maps", PREVIOUS[:, 1:])
    fails_with("previous: found 2 maps; expected 3", PREVIOUS[1:])
    fails_with(f"previous: found {K}; expected numbers in [-1, {K})", PREVIOUS + 1)
    fails_with("expected int64 of shape (3, h, w)", PREVIOUS.float())
    with pytest.raises(UserError, match="previous: found maps of 4 x 4"):
        model.sample(B, (H, W), NOISE, previous=PREVIOUS[:, 1:])
