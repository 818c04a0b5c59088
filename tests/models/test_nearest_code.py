"""The nearest code against NumPy in float64; chunks, ties and memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vqdist.models import nearest_code as module
from vqdist.models.nearest_code import assign_codes, nearest_code


def random_latents(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def numpy_distances(latents: torch.Tensor, codebook: torch.Tensor) -> np.ndarray:
    points, codes = latents.double().numpy(), codebook.double().numpy()
    return ((points[:, None] - codes[None]) ** 2).sum(-1)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_codes_equal_those_of_numpy(autocast: bool, offset: float) -> None:
    latents, codebook = random_latents(0, 3000, 16) + offset, random_latents(1, 200, 16) + offset
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        codes = nearest_code(latents, codebook)
    distances = numpy_distances(latents, codebook)
    best_two = np.partition(distances, 1, axis=1)[:, :2]
    clear = best_two[:, 1] - best_two[:, 0] > 1e-5 * (1 + offset**2)
    assert clear.mean() > 0.9
    assert np.array_equal(codes.numpy()[clear], distances.argmin(1)[clear])


def test_codes_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    latents, codebook = random_latents(0, 501, 8), random_latents(1, 33, 8)
    whole = nearest_code(latents, codebook)
    monkeypatch.setattr(module, "CPU_CHUNK_BYTES", 33 * 4 * 48)
    assert torch.equal(nearest_code(latents, codebook), whole)
    maps = latents[:500].view(5, 10, 10, 8).permute(0, 3, 1, 2)
    assert torch.equal(assign_codes(maps, codebook).codes.flatten(), whole[:500])


def test_ties_take_the_lower_index() -> None:
    codebook = torch.tensor([[5.0, 5.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]).repeat(20, 1)
    assert nearest_code(torch.tensor([[2.0, 0.0], [0.0, 0.0], [-1.0, 3.0]]), codebook).tolist() == [1, 1, 2]


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 0.0, 2.0])])
def test_assignments_equal_sums_over_one_hot_codes(weights: torch.Tensor | None) -> None:
    latents, codebook = random_latents(0, 3, 4, 5, 6).double(), random_latents(1, 7, 4).double()
    found = assign_codes(latents, codebook, weights)
    rows = latents.permute(0, 2, 3, 1).reshape(-1, 4)
    codes = torch.from_numpy(numpy_distances(rows, codebook).argmin(1))
    share = torch.ones(3) if weights is None else weights
    one_hot = torch.nn.functional.one_hot(codes, 7).double() * share.double().repeat_interleave(30)[:, None]
    assert torch.equal(found.codes.flatten(), codes)
    torch.testing.assert_close(found.quantized, codebook[found.codes].permute(0, 3, 1, 2))
    torch.testing.assert_close(found.errors, (found.quantized - latents).square().mean((1, 2, 3)))
    torch.testing.assert_close(found.counts, one_hot.sum(0))
    torch.testing.assert_close(found.sums, one_hot.T @ rows)


def read_peak_memory_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_search_never_holds_all_distances() -> None:
    # 8,192 x 8,192 distances are 256 MiB.
    codebook, latents = random_latents(0, 8192, 8), random_latents(1, 2, 8, 64, 64)
    rows = latents.permute(0, 2, 3, 1).reshape(-1, 8)
    assign_codes(latents[..., :8], codebook)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = read_peak_memory_mib()
    assign_codes(latents, codebook)
    nearest_code(rows, codebook)
    assert read_peak_memory_mib() - before < 64
    distances = torch.cdist(rows, codebook)
    assert read_peak_memory_mib() - before > distances.nbytes / 2**20 - 64, "the measurement sees all distances"
