"""A PixelCNN with attributes: conditions, unknown values, guidance against full forwards, and the saved model."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqdist.config.attributes import Attribute
from vqdist.foundation.errors import UserError
from vqdist.models.io import load_model, save_model
from vqdist.models.pixelcnn import PixelCNN

AGE = Attribute(kind="number", low=20, high=90, mean=50, std=10)
SEX = Attribute(kind="category", values=("F", "M"))
ATTRIBUTES = {"age": AGE, "sex": SEX}
GRID = (5, 4)


def build_model(**keys: object) -> PixelCNN:
    torch.manual_seed(0)
    names = {"condition": ["slice", "age", "sex"], "attributes": ATTRIBUTES, "condition_dropout": 0.1}
    model = PixelCNN(7, **{"hidden": 6, "layers": 3, "num_slices": 9, **names, **keys}).eval().double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def build_noise(num: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (num, GRID[0] * GRID[1], 7)
    return -torch.rand(shape, generator=generator, dtype=torch.float64).log().neg().log()


GIVEN = {"slice": [1, 8, 4], "age": [20.0, 55.5, 90.0], "sex": ["F", "M", None]}


def test_each_condition_changes_the_logits_of_its_map_only() -> None:
    model, codes = build_model(), torch.randint(7, (3, *GRID), generator=torch.Generator().manual_seed(1))
    logits = model(codes, conditions=GIVEN)
    for name, other in (("slice", 3), ("age", 40.0), ("sex", "F"), ("age", None), ("sex", None), ("slice", "unknown")):
        changed = model(
            codes, conditions={**GIVEN, name: [GIVEN[name][0], other if other != "unknown" else -1, GIVEN[name][2]]}
        )
        assert torch.equal(changed[[0, 2]], logits[[0, 2]])
        assert not torch.allclose(changed[1], logits[1])


def test_an_unknown_value_adds_nothing() -> None:
    model = build_model()
    without = {name: values for name, values in model.state_dict().items() if "attributes" not in name}
    plain = build_model(condition="slice", attributes={})
    plain.load_state_dict(without)
    codes = torch.randint(7, (2, *GRID), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(codes, conditions={"slice": 3}), plain(codes, slice=torch.tensor([3, 3])))


@pytest.mark.parametrize("symmetry", ["none", "up-down"])
@pytest.mark.parametrize(("guidance", "temperature", "top_k"), [(1.5, 1.0, 0), (-0.5, 0.7, 3), (3.0, 0.0, 0)])
def test_guided_codes_are_those_of_full_forwards(
    symmetry: str, guidance: float, temperature: float, top_k: int
) -> None:
    model, noise = build_model(symmetry=symmetry), build_noise(3)
    found = model.sample(3, GRID, noise, temperature, top_k, conditions=GIVEN, guidance=guidance)
    nothing = {"slice": "unknown"}
    codes = torch.zeros(3, *GRID, dtype=torch.int64)
    for place in range(GRID[0] * GRID[1]):
        y, x = divmod(place, GRID[1])
        with torch.no_grad():
            logits = (1 + guidance) * model(codes, conditions=GIVEN) - guidance * model(codes, conditions=nothing)
        logits = logits[:, :, y, x]
        if top_k:
            logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
        scores = logits if temperature == 0 else logits / temperature + noise[:, place]
        codes[:, y, x] = scores.argmax(dim=1)
    assert torch.equal(found, codes)
    assert not torch.equal(found, model.sample(3, GRID, noise, temperature, top_k, conditions=GIVEN))


def test_no_guidance_is_guidance_0_to_the_bit() -> None:
    model, noise = build_model().float(), build_noise(3).float()
    plain = model.sample(3, GRID, noise, conditions=GIVEN)
    assert torch.equal(model.sample(3, GRID, noise, conditions=GIVEN, guidance=0.0), plain)


def test_arguments_are_checked() -> None:
    model = build_model()
    with pytest.raises(UserError, match="age: found 91; expected a number from 20 to 90"):
        model.sample(1, GRID, conditions={"slice": 1, "age": 91.0})
    with pytest.raises(UserError, match="guidance: found nan; expected a finite number"):
        model.sample(1, GRID, conditions={"slice": 1}, guidance=float("nan"))
    with pytest.raises(UserError, match="condition_dropout above 0"):
        build_model(condition_dropout=0.0).sample(1, GRID, conditions={"slice": 1, "age": 30, "sex": "F"}, guidance=1.0)
    with pytest.raises(UserError, match=r"model\.condition: found age; expected label, slice and .* given: age, sex"):
        build_model(condition="age")


def test_every_parameter_gets_a_gradient() -> None:
    model = build_model()
    model.loss(torch.randint(7, (3, *GRID)), conditions=GIVEN).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_bits_and_completions_take_the_same_conditions() -> None:
    model, codes = build_model(), torch.randint(7, (3, *GRID), generator=torch.Generator().manual_seed(1))
    logits = model(codes, conditions=GIVEN).log_softmax(1).gather(1, codes[:, None])[:, 0]
    torch.testing.assert_close(model.bits(codes, conditions=GIVEN), -logits.detach() / torch.tensor(2.0).double().log())
    keep = torch.zeros(3, *GRID, dtype=torch.bool)
    noise = build_noise(3)
    assert torch.equal(
        model.complete(codes, keep, noise, conditions=GIVEN), model.sample(3, GRID, noise, conditions=GIVEN)
    )


def test_a_saved_model_keeps_its_attributes(tmp_path: Path) -> None:
    model = build_model().float()
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, PixelCNN)
    assert loaded.spec == model.spec
    assert torch.equal(
        loaded.bits(torch.zeros(3, *GRID, dtype=torch.int64), conditions=GIVEN),
        model.bits(torch.zeros(3, *GRID, dtype=torch.int64), conditions=GIVEN),
    )


def test_models_without_attributes_are_saved_as_before(tmp_path: Path) -> None:
    save_model(PixelCNN(7, hidden=4, layers=1, condition=["slice", "label"]), tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert saved["model"].keys() == {
        *("hidden", "layers", "kernel", "dropout", "condition", "symmetry"),
        *("num_codes", "num_labels", "num_slices"),
    }
    assert saved["model"]["condition"] == "label+slice"
    assert not {"attributes", "attribute_rows"} & saved.keys()
