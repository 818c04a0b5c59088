"""Learning rate, weight decay groups, saved optimizer state and the moving average of the weights."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vqdist.config.schema import OptimSection
from vqdist.distributed.process_group import Ranks
from vqdist.training.optim import (
    WeightEMA,
    build_optimizer,
    compute_lr,
    load_optimizer_tensors,
    optimizer_tensors,
    step_unless,
)

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


def section(**keys: object) -> OptimSection:
    return OptimSection.model_validate({"lr": 2.0, "warmup_steps": 4, "decay_steps": 24, **keys})


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_learning_rate_follows_the_schedule(schedule: str) -> None:
    settings = section(schedule=schedule)
    rates = [compute_lr(step, settings) for step in range(1, 41)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    done = np.minimum((np.arange(5, 41) - 4) / 20, 1.0)
    share = {"constant": np.ones(36), "cosine": (1 + np.cos(math.pi * done)) / 2, "linear": 1 - done}[schedule]
    floor = 1.0 if schedule == "constant" else 0.01
    np.testing.assert_allclose(rates[4:], 2.0 * (floor + (1 - floor) * share), rtol=1e-12)


def build_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.rand(4, 3, generator=generator)).square().sum().backward()
        optimizer.step()


def test_vectors_are_not_decayed() -> None:
    model = build_model()
    optimizer = build_optimizer(model, [], section(weight_decay=0.3), ALONE)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in model.parameters()] == [0.3, 0.0, 0.3, 0.0]


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_saved_state_continues_to_the_bit(name: str) -> None:
    model, again = build_model(), build_model()
    hidden = [[model[0].weight], [again[0].weight]]
    settings = section(name=name, lr=0.01, weight_decay=0.1)
    optimizer = build_optimizer(model, hidden[0], settings, ALONE)
    take_steps(model, optimizer, 3, seed=1)
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer).items()}
    again.load_state_dict(model.state_dict())
    resumed = build_optimizer(again, hidden[1], settings, ALONE)
    load_optimizer_tensors(resumed, saved)
    take_steps(model, optimizer, 3, seed=2)
    take_steps(again, resumed, 3, seed=2)
    for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_the_device_skips_a_step_without_asking_the_host(name: str) -> None:
    model, again = build_model(), build_model()
    settings = section(name=name, lr=0.01, weight_decay=0.1)
    usual, queued = (build_optimizer(each, [each[0].weight], settings, ALONE) for each in (model, again))
    generator = torch.Generator().manual_seed(1)
    for number in range(5):
        images = torch.rand(4, 3, generator=generator)
        for each in (model, again):
            each.zero_grad()
            each(images).square().sum().backward()
        if number == 3:
            again[0].weight.grad.fill_(torch.nan)
            before = [tensor.clone() for tensor in [*again.parameters(), *optimizer_tensors(queued).values()]]
            step_unless(queued, torch.tensor(1.0))
            after = [*again.parameters(), *optimizer_tensors(queued).values()]
            assert all(map(torch.equal, before, after))
            continue
        usual.step()
        step_unless(queued, torch.tensor(0.0))
    for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    assert not hasattr(queued, "found_inf")


def test_state_of_other_parameters_is_refused() -> None:
    model = build_model()
    optimizer = build_optimizer(model, [], section(), ALONE)
    take_steps(model, optimizer, 1, seed=1)
    saved = optimizer_tensors(optimizer)
    other = nn.Linear(3, 4)
    with pytest.raises(ValueError, match="shape"):
        load_optimizer_tensors(build_optimizer(other, [], section(), ALONE), saved)
    with pytest.raises(IndexError):
        load_optimizer_tensors(build_optimizer(model, [], section(), ALONE), {"9.exp_avg": torch.zeros(3)})


def test_the_average_is_that_of_numpy_and_is_swapped_in_for_a_block() -> None:
    model = nn.Linear(2, 1, bias=False)
    average = WeightEMA(model, 0.9)
    expected = model.weight.detach().numpy().astype(np.float64)
    for step in range(1, 40):
        with torch.no_grad():
            model.weight.add_(0.1 * step)
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach().numpy()
    live = model.weight.detach().clone()
    with average.applied():
        np.testing.assert_allclose(model.weight.detach().numpy(), expected, rtol=1e-5)
    assert torch.equal(model.weight.detach(), live)
    np.testing.assert_allclose(average.tensors["weight"].numpy(), expected, rtol=1e-5)
