"""The quantizer against NumPy in float64, against the formulas of the paper, and on several ranks against one."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vqdist.foundation.errors import ConfigError
from vqdist.models.nearest_code import nearest_code
from vqdist.models.quantizer import VectorQuantizer


def build(
    num_codes: int = 16, code_dim: int = 6, *, first_codes: torch.Tensor | None = None, **options
) -> VectorQuantizer:
    """Build an initialized quantizer with given or random codes."""
    torch.manual_seed(1)
    quantizer = VectorQuantizer(num_codes, code_dim, **options)
    with torch.no_grad():
        quantizer.codebook.copy_(torch.randn(num_codes, code_dim) if first_codes is None else first_codes)
    quantizer.initialized.fill_(True)
    return quantizer


def random_latents(seed: int = 0, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (4, 6, 5, 7)), generator=torch.Generator().manual_seed(seed))


def rows_of(latents: torch.Tensor) -> torch.Tensor:
    return latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])


def numpy_distances(latents: torch.Tensor, codebook: torch.Tensor) -> np.ndarray:
    points, codes = latents.double().numpy(), codebook.double().numpy()
    return ((points[:, None] - codes[None]) ** 2).sum(-1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_passes_straight_through(memory_format: torch.memory_format) -> None:
    quantizer = build(commitment_weight=0.3)
    latents = random_latents().to(memory_format=memory_format).requires_grad_()
    quantized, codes, loss = quantizer(latents)
    upstream = random_latents(5)
    codebook = quantizer.codebook.clone()
    torch.autograd.backward([quantized, loss], [upstream, torch.tensor(2.0)])
    # The EMA has changed the codebook since: the vectors of the codes are taken from the output.
    expected = upstream + 2.0 * 0.3 * 2 * (latents - quantized).detach() / latents.numel()
    torch.testing.assert_close(latents.grad, expected)
    assert codebook.grad is None
    assert codes.shape == (4, 5, 7)
    assert codes.dtype == torch.int64


@pytest.mark.parametrize("codebook", ["ema", "grad"])
def test_values_and_losses_follow_the_paper(codebook: str) -> None:
    quantizer = build(codebook=codebook, commitment_weight=0.3)
    latents = random_latents().requires_grad_()
    vectors = quantizer.codebook.detach().clone().requires_grad_()
    quantized, codes, loss = quantizer(latents)
    nearest = torch.from_numpy(numpy_distances(rows_of(latents.detach()), vectors.detach()).argmin(1)).view(4, 5, 7)
    assert torch.equal(codes, nearest)
    chosen = vectors[nearest].permute(0, 3, 1, 2)
    torch.testing.assert_close(quantized, chosen, rtol=0, atol=0)
    by_hand = 0.3 * F.mse_loss(latents, chosen.detach())
    if codebook == "grad":
        by_hand = by_hand + F.mse_loss(chosen, latents.detach())
    torch.testing.assert_close(loss, by_hand)
    if codebook == "grad":
        loss.backward()
        by_hand.backward()
        torch.testing.assert_close(quantizer.codebook.grad, vectors.grad)


def test_the_loss_is_the_mean_of_the_losses_of_samples() -> None:
    quantizer = build(codebook="grad", restart=False)
    latents = random_latents()
    alone = torch.stack([quantizer(sample[None])[2] for sample in latents])
    torch.testing.assert_close(quantizer(latents, per_sample=True)[2], alone)
    torch.testing.assert_close(quantizer(latents)[2], alone.mean())


def test_the_ema_follows_the_papers_recurrence() -> None:
    """Appendix A.1: N = gamma N + (1 - gamma) n; m = gamma m + (1 - gamma) sum of z; e = m / N."""
    quantizer = build(ema_decay=0.9, restart=False)
    vectors = quantizer.codebook.double().numpy().copy()
    sizes, sums = np.ones(16), vectors.copy()
    for step in range(60):
        latents = random_latents(step)
        points = rows_of(latents).double().numpy()
        codes = numpy_distances(rows_of(latents), torch.from_numpy(vectors)).argmin(1)
        assert np.array_equal(quantizer(latents)[1].flatten().numpy(), codes)
        one_hot = np.eye(16)[codes]
        sizes = 0.9 * sizes + 0.1 * one_hot.sum(0)
        sums = 0.9 * sums + 0.1 * one_hot.T @ points
        vectors = sums / sizes[:, None]
        np.testing.assert_allclose(quantizer.codebook.numpy(), vectors, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(quantizer.counts.numpy(), sizes, rtol=1e-5)


def test_the_bits_of_an_idle_code_do_not_change() -> None:
    first = torch.cat([torch.full((1, 2), 1e3), torch.randn(3, 2)])
    quantizer = build(4, 2, first_codes=first, ema_decay=0.5, restart=False)
    for step in range(400):
        quantizer(random_latents(step, 1, 2, 3, 3))
    assert torch.equal(quantizer.codebook[0], first[0])
    assert quantizer.counts[0] > 0
    assert quantizer.codebook.isfinite().all()


@pytest.mark.parametrize("codebook", ["ema", "grad"])
def test_evaluation_changes_nothing(codebook: str) -> None:
    quantizer = build(codebook=codebook).eval()
    before = {name: tensor.clone() for name, tensor in quantizer.named_buffers()}
    quantizer(random_latents())
    assert all(torch.equal(tensor, before[name]) for name, tensor in quantizer.named_buffers())


def test_low_precision_latents_keep_their_type() -> None:
    quantizer = build()
    latents = random_latents().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        quantized, codes, loss = quantizer(latents)
    assert (quantized.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(codes.flatten(), nearest_code(rows_of(latents), build().codebook))
    (quantized.float().sum() + loss).backward()
    assert latents.grad.dtype == torch.bfloat16
    assert quantizer.codebook.dtype == torch.float32


def test_encode_inverts_embed() -> None:
    quantizer = build()
    codes = torch.randint(16, (2, 3, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(quantizer.encode(quantizer.embed(codes)), codes)


def test_first_codes_are_distinct_latents() -> None:
    latents = torch.cat([torch.zeros(1000, 3), random_latents(0, 40, 3)])
    torch.manual_seed(7)
    expected = torch.rand(1)
    quantizers = []
    for order in (slice(None), torch.randperm(1040)):
        quantizers.append(VectorQuantizer(30, 3))
        quantizers[-1].initialize(latents[order], seed=3)
    codes = quantizers[0].codebook
    assert torch.equal(codes, quantizers[1].codebook)
    assert len(torch.unique(codes, dim=0)) == 30
    assert (codes[:, None] == latents[None]).all(-1).any(1).all()
    other = VectorQuantizer(30, 3)
    other.initialize(latents, seed=4)
    assert not torch.equal(codes, other.codebook)
    torch.manual_seed(7)
    quantizers[0].initialize(latents, seed=3)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("num_distinct", [1, 5])
def test_few_latents_are_repeated_with_jitter(num_distinct: int) -> None:
    latents = random_latents(0, num_distinct, 3).repeat(50, 1)
    quantizer = VectorQuantizer(12, 3)
    quantizer.initialize(latents, seed=0)
    assert len(torch.unique(quantizer.codebook, dim=0)) == 12
    assert torch.cdist(quantizer.codebook, latents).amin(1).max() < 0.5


def test_the_first_training_forward_initializes_the_codebook() -> None:
    quantizer = VectorQuantizer(8, 6)
    quantizer.eval()(random_latents())
    assert not quantizer.initialized
    quantized, _, _ = quantizer.train()(random_latents())
    assert quantizer.initialized
    rows = rows_of(random_latents())
    assert (rows_of(quantized)[:, None] == rows[None]).all(-1).any(1).all()


def deferred_step(quantizers: list[VectorQuantizer], latents: torch.Tensor, step: int, *, micro: int) -> None:
    """Run one step on one rank per quantizer: rank r has positions r, r + W, ... of the batch."""
    for rank, quantizer in enumerate(quantizers):
        quantizer.plan_restarts(0, step, len(latents))
        positions = torch.arange(rank, len(latents), len(quantizers))
        for part in positions.split(micro):
            quantizer(latents[part], part)
    for shares in zip(*(quantizer.pending for quantizer in quantizers), strict=True):
        total = torch.stack(list(shares)).sum(0)
        for share in shares:
            share.copy_(total)
    for quantizer in quantizers:
        quantizer.commit()


@pytest.mark.parametrize("codebook", ["ema", "grad"])
@pytest.mark.parametrize(("world_size", "micro"), [(1, 2), (2, 10), (3, 1)])
def test_ranks_and_micro_batches_change_nothing(codebook: str, world_size: int, micro: int) -> None:
    options = {"codebook": codebook, "deferred": True, "restart_every": 3, "restart_threshold": 0.2, "ema_decay": 0.7}
    alone, many = [build(24, **options)], [build(24, **options) for _ in range(world_size)]
    restarted = 0
    for step in range(1, 13):
        latents = random_latents(step, 7, 6, 3, 4)
        before = alone[0].codebook.detach().clone()
        deferred_step(alone, latents, step, micro=7)
        deferred_step(many, latents, step, micro=micro)
        restarted += int(((alone[0].codebook - before).norm(dim=1) > 1).sum())
        for quantizer in many:
            assert torch.equal(quantizer.codebook, many[0].codebook)
            torch.testing.assert_close(quantizer.codebook, alone[0].codebook, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(quantizer.counts, alone[0].counts)
    assert restarted > 0


def quantizer_with_dead_codes(**options) -> VectorQuantizer:
    first = torch.cat([torch.randn(4, 6), torch.full((4, 6), 1e3)])
    return build(8, first_codes=first, deferred=True, restart_every=10, **options)


def test_a_dead_code_restarts_at_a_latent_of_the_batch() -> None:
    quantizer = quantizer_with_dead_codes()
    quantizer.recent_counts.copy_(torch.tensor([10.0] * 4 + [0.0] * 4))
    latents = random_latents(3)
    quantizer.plan_restarts(0, 10, 4)
    quantizer(latents)
    quantizer.commit()
    restarted = quantizer.codebook[4:]
    assert quantizer.restarted == 4
    assert (restarted[:, None] == rows_of(latents)[None]).all(-1).any(1).all()
    assert len(torch.unique(restarted, dim=0)) == 4
    assert torch.equal(quantizer.counts[4:], torch.ones(4))
    assert all(not tensor.any() for tensor in (quantizer.pending_counts, quantizer.pending_candidates))


def test_restarts_prefer_latents_that_the_codebook_does_not_represent() -> None:
    for seed in range(5):
        quantizer = quantizer_with_dead_codes()
        quantizer.recent_counts.copy_(torch.tensor([10.0] * 4 + [0.0] * 4))
        latents = quantizer.codebook[0].repeat(2, 5, 5, 1).permute(0, 3, 1, 2).clone()
        latents[:, :, :3] = random_latents(seed, 2, 6, 3, 5)
        new = latents[:, :, :3].permute(0, 2, 3, 1).reshape(-1, 6)
        quantizer.plan_restarts(seed, 10, 2)
        quantizer(latents)
        quantizer.commit()
        assert (quantizer.codebook[4:, None] == new[None]).all(-1).any(1).sum() >= 3


@pytest.mark.parametrize(("step", "restart"), [(9, True), (10, False)])
def test_codes_restart_only_at_the_configured_steps(step: int, restart: bool) -> None:
    quantizer = quantizer_with_dead_codes(restart=restart)
    quantizer.recent_counts.copy_(torch.tensor([10.0] * 4 + [0.0] * 4))
    quantizer.plan_restarts(0, step, 4)
    quantizer(random_latents())
    assert len(quantizer.pending) == 2
    quantizer.commit()
    assert (quantizer.codebook[4:] == 1e3).all()
    assert quantizer.restarted == 0


def test_a_discarded_step_changes_no_buffer() -> None:
    quantizer = quantizer_with_dead_codes()
    before = {name: tensor.clone() for name, tensor in quantizer.named_buffers()}
    quantizer.plan_restarts(0, 10, 4)
    quantizer(torch.full((4, 6, 5, 7), torch.nan))
    quantizer.discard()
    assert all(torch.equal(tensor, before[name]) for name, tensor in quantizer.named_buffers())


def test_pending_statistics_are_not_saved() -> None:
    assert set(build().state_dict()) == {"codebook", "counts", "recent_counts", "initialized"}


def test_all_codes_are_used_after_a_start_far_from_the_data() -> None:
    """A standalone quantizer recovers from a codebook that is far from all latents."""
    quantizer = build(
        32, 6, first_codes=torch.full((32, 6), 50.0) + torch.arange(32)[:, None], restart_every=5, ema_decay=0.9
    )
    for step in range(100):
        codes = quantizer(random_latents(step, 8, 6, 8, 8))[1]
    assert len(codes.unique()) == 32


def test_the_codebook_is_a_positional_argument() -> None:
    assert not VectorQuantizer(8, 4, "grad").learns_by_ema
    assert VectorQuantizer(8, 4, "ema").learns_by_ema


def test_all_invalid_arguments_are_reported_together() -> None:
    with pytest.raises(ValueError, match="num_codes: found 0; expected at least 2") as caught:
        VectorQuantizer(0, 4, "foo", ema_decay=1.0, restart_every=0)
    assert "codebook: found 'foo'; expected ema or grad" in str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert [item.where for item in caught.value.problems] == ["num_codes", "codebook", "ema_decay", "restart_every"]


def learned_state(quantizer: VectorQuantizer) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in [*quantizer.named_buffers(), ("", quantizer.codebook)]}


@pytest.mark.parametrize("codebook", ["ema", "grad"])
@pytest.mark.parametrize("deferred", [False, True])
def test_samples_of_weight_0_change_nothing_that_is_learned(codebook: str, deferred: bool) -> None:
    options = {"codebook": codebook, "deferred": deferred, "restart_every": 2, "restart_threshold": 0.5}
    weighted, without = build(**options), build(**options)
    weights = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0])
    for step in range(1, 7):
        latents = random_latents(step, 5, 6, 4, 3)
        latents[0] = torch.nan
        latents[2] *= 100
        real = latents[weights > 0]
        if deferred:
            weighted.plan_restarts(0, step, 3)
            without.plan_restarts(0, step, 3)
        _, codes, losses = weighted(latents, weights=weights, per_sample=True)
        _, real_codes, real_losses = without(real, per_sample=True)
        assert torch.equal(codes[weights > 0], real_codes)
        assert torch.equal(losses[weights > 0], real_losses)
        expected = learned_state(without)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in learned_state(weighted).items())
        if deferred:
            weighted.commit()
            without.commit()
    assert without.restarted > 0


def test_a_batch_of_weight_0_leaves_the_pending_statistics_unchanged() -> None:
    quantizer = build(deferred=True, restart_every=1)
    quantizer.plan_restarts(0, 1, 4)
    quantizer(random_latents(1), torch.arange(4))
    before = learned_state(quantizer)
    quantizer(random_latents(2), torch.arange(4), weights=torch.zeros(4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in learned_state(quantizer).items())


def test_weights_of_1_are_bit_identical_to_no_weights() -> None:
    weighted, plain = build(restart_every=2), build(restart_every=2)
    for step in range(5):
        latents = random_latents(step)
        found, expected = weighted(latents, weights=torch.ones(4)), plain(latents)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        assert all(torch.equal(tensor, learned_state(plain)[name]) for name, tensor in learned_state(weighted).items())


def test_counts_and_sums_are_weighted() -> None:
    quantizer = build(deferred=True)
    latents, weights = random_latents(), torch.tensor([0.5, 2.0, 0.0, 1.0])
    codes = quantizer(latents, weights=weights)[1]
    one_hot = F.one_hot(codes.flatten(1), 16).double() * weights[:, None, None]  # (B, h * w, K)
    rows = latents.flatten(2).transpose(1, 2).double()
    torch.testing.assert_close(quantizer.pending_counts.double(), one_hot.sum((0, 1)))
    torch.testing.assert_close(
        quantizer.pending_sums.double(), torch.einsum("bnk,bnd->kd", one_hot, rows), rtol=1e-5, atol=1e-5
    )


def test_a_standalone_quantizer_accepts_a_batch_of_weight_0() -> None:
    quantizer = build(restart_every=1)
    before = quantizer.codebook.clone()
    quantizer(random_latents(), weights=torch.zeros(4))
    assert torch.equal(quantizer.codebook, before)
    assert quantizer.restarted == 0


def test_compiled_quantizer_is_the_eager_one_and_is_compiled_once() -> None:
    """The count of its own steps must not be part of a graph, or every step would be compiled anew."""
    eager, compiled = (VectorQuantizer(8, 4, restart_every=3) for _ in range(2))
    compiled.load_state_dict(eager.state_dict())
    compiled.compile(backend="eager")
    generator = torch.Generator().manual_seed(0)
    torch._dynamo.utils.counters.clear()
    for _ in range(10):
        latents = torch.randn(2, 4, 4, 4, generator=generator)
        for found, expected in zip(compiled(latents), eager(latents), strict=True):
            assert torch.allclose(found, expected)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


def test_models_are_imported_without_the_compiler() -> None:
    """torch._dynamo takes seconds to import, which every command would pay at its start."""
    code = (
        "import sys, vqdist.inference.encoding, vqdist.evaluation.evaluate; assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
