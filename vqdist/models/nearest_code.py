"""The search for the nearest code, a chunk of latents at a time.

Shapes: B batch, h w latent grid, D code size, K codes, N latents (B * h * w of them in a batch).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CPU_CHUNK_BYTES = 4 * 2**20
GPU_CHUNK_BYTES = 512 * 2**20
CONV_BATCH = 16
BLOCK = 32


def nearest_code(latents: Float[Tensor, "N D"], codebook: Float[Tensor, "K D"]) -> Int[Tensor, " N"]:
    """Return the index of the nearest codebook vector.

    Squared Euclidean distance in fp32 (float64 for float64 input) whatever autocast says; ties take the
    lower index. The distances are made a chunk at a time, never all N x K. van den Oord 2017, eq. 2.

    Args:
        latents: (N, D) float.
        codebook: (K, D) float.
    Returns:
        (N,) int64 in [0, K).
    """
    with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
        search = CodeSearch(codebook)
        # Written into one tensor: small results between the chunks' distances would scatter the heap.
        codes = torch.empty(len(latents), dtype=torch.int64, device=latents.device)
        for found, chunk in zip(codes.split(search.chunk_rows), latents.split(search.chunk_rows), strict=True):
            found.copy_(search(chunk))
        return codes


class Assignment(NamedTuple):
    """What one pass over the latents yields."""

    quantized: Tensor  # (B, D, h, w) in the latents' dtype
    codes: Tensor  # (B, h, w) int64
    errors: Tensor  # (B,) mean squared distance between latents and codes, over D and positions
    counts: Tensor  # (K,) how often each code was taken
    sums: Tensor  # (K, D) sum of the latents that took it


def assign_codes(latents: Tensor, codebook: Tensor, weights: Tensor | None = None) -> Assignment:
    """Assign each latent to its nearest code and sum the latents of each code, in chunks that fit the cache.

    Args:
        latents: (B, D, h, w) float; channels_last saves a copy.
        codebook: (K, D) float.
        weights: (B,) weight of each sample in counts and sums; None: 1.
    """
    B, D, h, w = latents.shape
    codebook = at_least_fp32(codebook)
    search = CodeSearch(codebook)
    quantized = latents.new_empty(B * h * w, D)
    codes = torch.empty(B * h * w, dtype=torch.int64, device=latents.device)
    errors = codebook.new_empty(B * h * w)
    counts, sums = codebook.new_zeros(len(codebook)), torch.zeros_like(codebook)
    row_weights = None if weights is None else weights.to(errors).repeat_interleave(h * w)
    start = 0
    for rows in _row_chunks(latents, search.chunk_rows):
        part = slice(start, start := start + rows.shape[0])
        found = search(rows)
        nearest = codebook.index_select(0, found)
        codes[part] = found
        quantized[part] = nearest
        errors[part] = nearest.sub_(rows).square_().sum(1)
        if row_weights is None:
            counts.index_add_(0, found, torch.ones_like(errors[part]))
        else:
            counts.index_add_(0, found, row_weights[part])
            weight = row_weights[part, None]
            rows = torch.where(weight == 0, 0.0, rows * weight)  # NaN times 0 would be NaN
        sums.index_add_(0, found, rows)
    return Assignment(
        quantized.view(B, h, w, D).permute(0, 3, 1, 2),
        codes.view(B, h, w),
        errors.view(B, -1).mean(1) / D,
        counts,
        sums,
    )


def _row_chunks(latents: Tensor, max_rows: int) -> Iterator[Tensor]:
    """Yield the latents of all positions, in order, as (at most max_rows, D) in fp32."""
    D, h, w = latents.shape[1:]
    for samples in latents.split(max(1, max_rows // (h * w))):
        for rows in samples.permute(0, 2, 3, 1).reshape(-1, D).split(max_rows):
            yield at_least_fp32(rows).contiguous()


class CodeSearch:
    """A codebook made ready for the search.

    It compares |e|^2 - 2 z e, the squared distance less |z|^2, which is the same for all codes.
    """

    def __init__(self, codebook: Tensor) -> None:
        codebook = at_least_fp32(codebook)
        self.dtype = codebook.dtype
        self.num_codes = len(codebook)
        self.blockwise = self.num_codes >= 4 * BLOCK
        norms, padding = codebook.square().sum(1), -self.num_codes % BLOCK if self.blockwise else 0
        self.norms = F.pad(norms, (0, padding), value=torch.inf)
        self.weight = F.pad(codebook * -2, (0, 0, 0, padding))
        budget = CPU_CHUNK_BYTES if codebook.device.type == "cpu" else GPU_CHUNK_BYTES
        rows = budget // (len(self.norms) * codebook.element_size())
        self.chunk_rows = max(CONV_BATCH, rows // CONV_BATCH * CONV_BATCH)

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the codes (n,) of at most `chunk_rows` latents (n, D)."""
        distances = self._distances(latents.to(self.dtype).contiguous())
        if not self.blockwise:
            return distances.argmin(1)
        # The least of each block first: amin is vectorised where argmin is not.
        blocks = distances.view(len(latents), -1, BLOCK)
        block = blocks.amin(2).argmin(1)
        within = blocks[torch.arange(len(latents), device=latents.device), block].argmin(1)
        return within.add_(block, alpha=BLOCK)

    def _distances(self, latents: Tensor) -> Tensor:
        n, D = latents.shape
        if n % CONV_BATCH or self.dtype == torch.float64 or latents.device.type != "cpu":
            return torch.addmm(self.norms, latents, self.weight.t())
        # oneDNN's convolution uses AVX-512 on every CPU that has it; torch.mm goes to MKL, which does not on AMD.
        maps = latents.view(CONV_BATCH, n // CONV_BATCH, 1, D).permute(0, 3, 1, 2)
        return F.conv2d(maps, self.weight[:, :, None, None], self.norms).permute(0, 2, 3, 1).reshape(n, -1)


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Return the tensor in fp32, or in float64 if it is so already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
