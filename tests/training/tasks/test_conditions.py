"""Conditions of batches, and conditions hidden at random."""

from dataclasses import replace

import pytest
import torch

from vqdist.config.attributes import Attribute
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.foundation.errors import DataError
from vqdist.foundation.seeds import derive_seed
from vqdist.models.map_conditions import MapConditions
from vqdist.models.pixelcnn import PixelCNN
from vqdist.training.tasks.condition_rows import MAX_ROWS, vary_attributes
from vqdist.training.tasks.conditions import conditions_of, draw_uniform, hide_at_random

AGE = Attribute(kind="number", low=20, high=90)
SEX = Attribute(kind="category", values=("F", "M"))
OTHERS = {"age": Attribute(kind="number", low=10, high=99), "sex": Attribute(kind="category", values=("D", "F", "M"))}


def build_model(dropout: float = 0.1) -> PixelCNN:
    names = {"condition": ["slice", "age", "sex"], "condition_dropout": dropout}
    return PixelCNN(8, hidden=4, layers=1, num_slices=20, attributes={"age": AGE, "sex": SEX}, **names)


def build_batch(ages: list[float], sexes: list[float], *, keys: bool = True) -> Batch:
    codes, slices = torch.zeros(len(ages), 4, 4, dtype=torch.int64), torch.arange(len(ages))
    attributes = {"age": torch.tensor(ages), "sex": torch.tensor(sexes)}
    known = MapConditions(torch.full_like(slices, NO_NUMBER), slices, attributes)
    names = [f"k{number}" for number in range(len(ages))] if keys else []
    return Batch(1, True, codes, known, slices, torch.ones(len(ages)), names)


def test_attributes_of_another_dataset_are_in_the_encoding_of_the_model() -> None:
    nan = float("nan")
    batch = build_batch([15.0, 50.0, 95.0, nan], [0.0, 1.0, 2.0, nan])
    for found in (
        conditions_of(build_model(), batch, OTHERS),
        conditions_of(build_model(), batch.to(torch.device("cpu")), OTHERS),
    ):
        assert found.label is None
        assert found.attributes["age"].nan_to_num(-1).tolist() == [20, 50, 90, -1]  # inside the range of the model
        assert found.attributes["sex"].nan_to_num(-1).tolist() == [-1, 0, 1, -1]  # the model does not know D


def test_a_missing_attribute_needs_a_model_with_unknown_values() -> None:
    batch = build_batch([30.0, float("nan")], [0.0, 1.0])
    assert conditions_of(build_model(), batch, {"age": AGE, "sex": SEX}).attributes["age"].isnan().tolist() == [
        False,
        True,
    ]
    with pytest.raises(DataError, match="sample k1: found no age; expected one"):
        conditions_of(build_model(0.0), batch, {"age": AGE, "sex": SEX})


def test_a_blank_sample_has_valid_conditions() -> None:
    batch = build_batch([float("nan")], [float("nan")], keys=False)
    model = build_model(0.0)
    found = conditions_of(model, batch, {"age": AGE, "sex": SEX})
    assert model.spec.find_problems(1, found) == []
    assert model(batch.values, conditions=found).shape == (1, 8, 4, 4)


def test_draws_are_splitmix64() -> None:
    seed, modulus = derive_seed(3, "test"), 2**64
    expected = []
    for position in range(50):
        state = ((position + 1) * 0x9E3779B97F4A7C15 + seed) % modulus
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % modulus
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % modulus
        expected.append(((state ^ (state >> 31)) >> 40) / 2**24)
    assert draw_uniform(seed, torch.arange(50)).tolist() == pytest.approx(expected)


def test_shares_of_hidden_conditions() -> None:
    count, share = 40_000, 0.2
    ages = torch.full((count,), 50.0)
    known = MapConditions(slice=torch.zeros(count, dtype=torch.int64), attributes={"age": ages, "sex": ages * 0})
    found = hide_at_random(known, share, seed=0, step=7, positions=torch.arange(count))
    age, sex = (found.attributes[name].isnan() for name in ("age", "sex"))
    number = found.slice == NO_NUMBER
    alone = 1 - (1 - share) ** 2
    for hidden in (age, sex, number):
        assert hidden.float().mean().item() == pytest.approx(alone, abs=0.01)
    everything = share + (1 - share) * share**3
    assert (age & sex & number).float().mean().item() == pytest.approx(everything, abs=0.01)
    only_age = (1 - share) * share * (1 - share) ** 2
    assert (age & ~sex & ~number).float().mean().item() == pytest.approx(only_age, abs=0.01)


def test_what_is_hidden_depends_on_seed_step_and_position_only() -> None:
    def hide(positions: list[int], step: int = 3, seed: int = 0) -> list[bool]:
        ages = torch.full((len(positions),), 50.0)
        places = torch.tensor(positions)
        found = hide_at_random(MapConditions(attributes={"age": ages}), 0.4, seed=seed, step=step, positions=places)
        return found.attributes["age"].isnan().tolist()

    whole = hide(list(range(64)))
    assert hide(list(range(1, 64, 2))) == whole[1::2]  # the share of another rank
    assert hide(list(range(64)), step=4) != whole
    assert hide(list(range(64)), seed=1) != whole


def test_rows_of_a_preview_vary_one_attribute() -> None:
    known = MapConditions(
        slice=torch.tensor([3, 4]), attributes={"age": torch.tensor([30.0, 40.0]), "sex": torch.zeros(2)}
    )
    rows = vary_attributes(known, {"age": AGE, "sex": SEX})
    assert [row.attributes["age"].tolist() for row in rows[:3]] == [[20, 20], [55, 55], [90, 90]]
    assert [row.attributes["sex"].tolist() for row in rows[3:]] == [[0, 0], [1, 1]]
    assert all(row.attributes["age"].tolist() == [30, 40] for row in rows[3:])
    assert all(row.slice is known.slice for row in rows)
    previous = torch.zeros(2, 4, 4, dtype=torch.int64)
    (*_, last) = vary_attributes(replace(known, previous=previous), {"age": AGE, "sex": SEX})
    assert known.join(known).previous is None
    assert replace(known, previous=previous).join(last).previous.shape == (4, 4, 4)
    many = Attribute(kind="category", values=tuple("abcdefghijkl"))
    assert len(vary_attributes(MapConditions(attributes={"x": torch.zeros(2)}), {"x": many})) == MAX_ROWS
