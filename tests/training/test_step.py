"""One training step, without a loop: gradients, weights of samples, non-finite steps, requests."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import Batch
from vqdist.distributed.process_group import Ranks
from vqdist.foundation import devices
from vqdist.models.map_conditions import MapConditions
from vqdist.training.optim import build_optimizer, step_unless
from vqdist.training.state import TrainingState
from vqdist.training.step import RankRequests, settle_buckets, train_step
from vqdist.training.tasks.task import Losses

NOTHING = RankRequests()
CPU = torch.device("cpu")


class LinearTask:
    """Predict the mean of an image by a linear model; counts what the step calls."""

    def __init__(self, weight: Tensor) -> None:
        self.model = nn.Linear(4, 1, bias=False)
        self.model.weight = nn.Parameter(weight.clone())
        self.calls: list[Any] = []
        self.seen = torch.zeros(1)

    def begin_step(self, step: int) -> None:
        self.calls.append(("begin", step))

    def losses(self, model: nn.Module, batch: Batch, *, training: bool) -> Losses:
        images = batch.values.float().flatten(1)
        self.seen += batch.weights.sum()
        errors = (model(images)[:, 0] - images.mean(1)).square()
        return Losses({"loss": errors, "twice": 2 * errors.detach()})

    def buffers_to_reduce(self) -> list[Tensor]:
        return [self.seen]

    def end_step(self, finite: bool) -> None:
        self.calls.append(("end", finite))


@dataclass(frozen=True)
class Doubling(Ranks):
    """Rank 0 of two ranks that hold the same: a sum doubles."""

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.mul_(2)


def configure(**keys: object) -> RunConfig:
    flags = {"optim.lr": 0.1, "optim.schedule": "constant", "optim.decay_steps": 10, "optim.grad_clip": "null"}
    config, problems = load_config(None, [(name, str(value)) for name, value in (flags | keys).items()])
    assert problems == []
    assert config is not None
    return config


def build(config: RunConfig, *, ranks: Ranks | None = None) -> TrainingState:
    task = LinearTask(torch.ones(1, 4))
    accelerator = SimpleNamespace(
        scaler=None,
        backward=lambda loss: loss.backward(),
        no_sync=lambda model: torch.enable_grad(),
        clip_grad_norm_=torch.nn.utils.clip_grad_norm_,
    )
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1.0)
    ranks = ranks or Ranks(0, 1, 0, CPU)
    return TrainingState(config, task, ranks, accelerator, task.model, optimizer, None)  # type: ignore[arg-type]


def make_batch(values: Tensor, *, last: bool = True, weights: Tensor | None = None) -> Batch:
    count = len(values)
    numbers = torch.arange(count)
    weights = torch.ones(count) if weights is None else weights
    keys = [f"k{index}" for index in range(count) if weights[index] > 0]
    return Batch(1, last, values, MapConditions(numbers, numbers), numbers, weights, keys)


def images(count: int) -> Tensor:
    return torch.rand(count, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def gradient_step(values: Tensor) -> Tensor:
    """Return the weights after one SGD step on the mean loss of all samples."""
    weight = torch.ones(1, 4, requires_grad=True)
    flat = values.flatten(1)
    (flat @ weight[0] - flat.mean(1)).square().mean().backward()
    return (weight - 0.1 * weight.grad).detach()


@pytest.mark.parametrize("sizes", [[6], [4, 2], [1, 5], [2, 2, 2]])
def test_every_sample_has_the_same_weight_whatever_the_micro_batches(sizes: list[int]) -> None:
    values = images(6)
    state = build(configure(**{"data.global_batch_size": 6}))
    parts = values.split(sizes)
    batches = [make_batch(part, last=number == len(parts) - 1) for number, part in enumerate(parts)]
    result = train_step(state, batches, NOTHING)
    torch.testing.assert_close(state.task.model.weight.detach(), gradient_step(values))
    assert result.finite
    assert result.lr == 0.1
    losses = (values.flatten(1).sum(1) - values.flatten(1).mean(1)).square()
    total, samples = state.progress.sums["loss"]
    assert (total, samples) == (pytest.approx(losses.sum().item(), rel=1e-6), 6.0)
    assert state.progress.sums["twice"][0] == pytest.approx(2 * losses.sum().item(), rel=1e-6)
    assert state.task.calls == [("begin", 1), ("end", True)]
    assert state.progress.step == 1


def test_samples_of_weight_zero_change_nothing() -> None:
    values, blank = images(5), torch.full((1, 1, 2, 2), 1e3)
    config = configure(**{"data.global_batch_size": 6, "data.on_error": "skip"})
    state = build(config)
    padded = make_batch(torch.cat([values, blank]), weights=torch.tensor([1.0] * 5 + [0.0]))
    train_step(state, [padded], NOTHING)
    torch.testing.assert_close(state.task.model.weight.detach(), gradient_step(values))
    assert state.progress.sums["loss"][1] == 5.0
    alone = build(config)
    only_blank = [make_batch(values, last=False), make_batch(blank, weights=torch.zeros(1))]
    train_step(alone, only_blank, NOTHING)
    torch.testing.assert_close(alone.task.model.weight.detach(), gradient_step(values))


def test_damaged_samples_are_counted_and_the_mean_is_over_the_others() -> None:
    state = build(configure(**{"data.global_batch_size": 8, "data.on_error": "skip"}))
    batch = replace(make_batch(images(5)), skipped=["a", "b", "c"])
    train_step(state, [batch], NOTHING)
    torch.testing.assert_close(state.task.model.weight.detach(), gradient_step(images(5)))
    assert state.progress.skipped_samples == 3


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_skipped_and_counted(poison: float) -> None:
    state = build(configure(**{"data.global_batch_size": 4}))
    bad = images(4)
    bad[1, 0, 0, 0] = poison
    for count in (1, 2):
        result = train_step(state, [make_batch(bad)], NOTHING)
        assert not result.finite
        assert (state.progress.bad_in_row, state.progress.bad_steps, state.progress.step) == (count, count, count)
    assert torch.equal(state.task.model.weight.detach(), torch.ones(1, 4))
    assert state.task.calls[-1] == ("end", False)
    assert state.progress.sums == {}
    assert state.task.model.weight.grad is None
    assert train_step(state, [make_batch(images(4))], NOTHING).finite
    assert (state.progress.bad_in_row, state.progress.bad_steps) == (0, 2)


def test_sums_buffers_and_requests_are_reduced_together() -> None:
    state = build(configure(**{"data.global_batch_size": 8}), ranks=Doubling(0, 2, 0, CPU))
    result = train_step(state, [make_batch(images(4))], RankRequests(checkpoint=True))
    assert result.requests == RankRequests(stop=False, checkpoint=True)
    assert state.task.seen.item() == 8.0, "the task's buffer is summed in place"
    assert state.progress.sums["loss"][1] == 8.0
    # DDP would average the gradients of the two equal ranks: the step is that of the mean over all samples.
    torch.testing.assert_close(state.task.model.weight.detach(), gradient_step(images(4)))


def test_the_gradient_is_clipped_and_its_norm_reported() -> None:
    state = build(configure(**{"data.global_batch_size": 4, "optim.grad_clip": 0.01}))
    result = train_step(state, [make_batch(images(4))], NOTHING)
    moved = (state.task.model.weight.detach() - 1).norm().item()
    assert moved == pytest.approx(0.1 * 0.01, rel=1e-3)
    assert result.grad_norm > 0.01


def test_a_device_that_queues_work_takes_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag of a bad step reaches the optimizer as a tensor; the host reads nothing before `while_queued`."""
    config = configure(**{"data.global_batch_size": 4})
    usual, queued = build(config), build(config)
    for state in (usual, queued):
        state.optimizer = build_optimizer(state.task.model, [], config.optim, state.ranks)
    bad = images(4)
    bad[0] = float("nan")
    events: list[str] = []
    read = Tensor.tolist

    def step_and_note(optimizer: Any, skip: Tensor) -> None:
        events.append("step")
        step_unless(optimizer, skip)

    for values in (images(4), bad, images(4)):
        batch = make_batch(values)
        expected = train_step(usual, [batch], NOTHING)
        events.clear()
        with monkeypatch.context() as patch:
            patch.setattr(devices, "QUEUING_DEVICES", frozenset({"cpu"}))
            patch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
            patch.setattr(Tensor, "tolist", lambda tensor: events.append("read") or read(tensor))
            patch.setattr("vqdist.training.step.step_unless", step_and_note)
            result = train_step(queued, [batch], NOTHING, while_queued=lambda: events.append("next batch"))
        assert events == ["step", "next batch", "read", "read"], "of the device, and then of the flags on the host"
        assert (result.finite, result.lr) == (expected.finite, expected.lr)
        assert torch.equal(queued.task.model.weight, usual.task.model.weight)
    assert vars(queued.progress) == vars(usual.progress)
    assert queued.progress.bad_steps == 1


def test_requests_are_exchanged_on_the_host_before_it_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that has ended is an error of the exchange; the wait for the device would not end."""
    events: list[Any] = []
    read = Tensor.tolist

    @dataclass(frozen=True)
    class Noting(Doubling):
        def all_reduce(self, tensor: Tensor) -> Tensor:
            events.append(len(tensor))
            return super().all_reduce(tensor)

    monkeypatch.setattr(devices, "QUEUING_DEVICES", frozenset({"cpu"}))
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: events.append("read") or read(tensor))
    config = configure(**{"data.global_batch_size": 8})
    state = build(config, ranks=Noting(0, 2, 0, CPU))
    state.optimizer = build_optimizer(state.task.model, [], config.optim, state.ranks)
    requests = RankRequests(checkpoint=True)
    result = train_step(state, [make_batch(images(4))], requests, while_queued=lambda: events.append("next batch"))
    # Two loss terms, the flag of a bad step and the task's buffer on the device; four flags on the host.
    assert events[:4] == [4, "next batch", 4, "read"]
    assert result.requests == RankRequests(stop=False, checkpoint=True)
    assert (state.progress.sums["loss"][1], state.task.seen.item()) == (8.0, 8.0)


def test_a_bad_loss_term_with_a_finite_gradient_is_skipped_in_fp16() -> None:
    """The gradients were unscaled, so that the scaler must be updated although the step is skipped."""
    state = build(configure(**{"data.global_batch_size": 4}))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def clip(parameters: Any, limit: float) -> Tensor:
        scaler.unscale_(state.optimizer)
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    state.accelerator.scaler, state.accelerator.clip_grad_norm_ = scaler, clip
    state.accelerator.backward = lambda loss: scaler.scale(loss).backward()
    losses = state.task.losses

    def add_bad_term(*arguments: Any, **keys: Any) -> Losses:
        found = losses(*arguments, **keys)
        return Losses(found.terms | {"extra": found.terms["loss"].detach() * float("inf")})

    state.task.losses = add_bad_term
    for count in (1, 2):
        assert not train_step(state, [make_batch(images(4))], NOTHING).finite
        assert state.progress.bad_in_row == count
    assert torch.equal(state.task.model.weight.detach(), torch.ones(1, 4))
    assert scaler.get_scale() == 4.0, "the gradients did not overflow"
    state.task.losses = losses
    assert train_step(state, [make_batch(images(4))], NOTHING).finite
    torch.testing.assert_close(state.task.model.weight.detach(), gradient_step(images(4)))


def test_an_overflow_lowers_the_scale_of_the_loss() -> None:
    state = build(configure(**{"data.global_batch_size": 4}))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def clip(parameters: Any, limit: float) -> Tensor:
        scaler.unscale_(state.optimizer)
        return torch.nn.utils.clip_grad_norm_(parameters, limit)

    state.accelerator.scaler, state.accelerator.clip_grad_norm_ = scaler, clip
    state.accelerator.backward = lambda loss: (scaler.scale(loss) * float("inf")).backward()
    assert not train_step(state, [make_batch(images(4))], NOTHING).finite
    assert scaler.get_scale() == 2.0
    assert torch.equal(state.task.model.weight.detach(), torch.ones(1, 4))


def test_settling_the_buckets_learns_nothing() -> None:
    state = build(configure(), ranks=Doubling(0, 2, 0, CPU))
    blank = make_batch(torch.zeros(1, 1, 2, 2), weights=torch.zeros(1))
    settle_buckets(state, blank)
    assert torch.equal(state.task.model.weight.detach(), torch.ones(1, 4))
    assert state.task.model.weight.grad is None
    assert state.task.seen.item() == 0.0


def test_progress_loads_what_was_saved_and_refuses_unknown_counters() -> None:
    state = build(configure())
    saved: Mapping[str, Any] = {"step": 7, "sums": {"loss": [3, 2]}, "eval_due": True}
    state.progress.load(dict(saved))
    assert (state.progress.step, state.progress.sums, state.progress.eval_due) == (7, {"loss": (3.0, 2.0)}, True)
    with pytest.raises(TypeError):
        state.progress.load({"steps": 7})
