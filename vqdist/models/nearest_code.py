"""Nearest codebook vector of each latent, for a chunk of latents at a time; never all distances in memory.

Shapes: B batch, h w latent grid, D code size, K codes, N latents (B * h * w of them in a batch).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vqdist.models.cpu_kernels import CONV_BATCH, CodeSearch, CPUCodeSearch

CPU_CHUNK_BYTES = 4 * 2**20
GPU_CHUNK_BYTES = 512 * 2**20


def nearest_code(latents: Float[Tensor, "N D"], codebook: Float[Tensor, "K D"]) -> Int[Tensor, " N"]:
    """Find the nearest codebook vector of each latent; van den Oord et al. 2017, eq. 2.

    Computes squared Euclidean distances in fp32, also under autocast (float64 for a float64 codebook). On a GPU with
    torch.backends.cuda.matmul.allow_tf32, which the commands of vqdist set, their inputs are rounded to TF32: about one
    latent in ten thousand then gets another code than in fp32, of almost the same distance. Ties take the lower index.

    Args:
        latents: (N, D) float.
        codebook: (K, D) float.
    Returns:
        (N,) int64 in [0, K).
    """
    with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
        codebook = to_at_least_fp32(codebook)
        search, chunk_rows = _build_search(codebook)
        # One tensor for all results: small results allocated between the distances of chunks would fragment the heap.
        codes = torch.empty(len(latents), dtype=torch.int64, device=latents.device)
        for found, chunk in zip(codes.split(chunk_rows), latents.split(chunk_rows), strict=True):
            found.copy_(search(chunk.to(codebook.dtype).contiguous()))
        return codes


class Assignment(NamedTuple):
    """Codes of a batch and the statistics that the codebook learns from."""

    quantized: Tensor  # (B, D, h, w) in the dtype of the latents
    codes: Tensor  # (B, h, w) int64
    errors: Tensor  # (B,) mean squared distance between latents and codes, over D and positions
    counts: Tensor  # (K,) number of latents of each code, weighted
    sums: Tensor  # (K, D) sum of the latents of each code, weighted


def assign_codes(latents: Tensor, codebook: Tensor, weights: Tensor | None = None) -> Assignment:
    """Assign each latent to its nearest code and sum the latents of each code, in chunks that fit the cache.

    Args:
        latents: (B, D, h, w) float; channels_last saves a copy.
        codebook: (K, D) float.
        weights: (B,) weight of each sample in counts and sums; None: 1.
    """
    B, D, h, w = latents.shape
    codebook = to_at_least_fp32(codebook)
    search, chunk_rows = _build_search(codebook)
    quantized = latents.new_empty(B * h * w, D)
    codes = torch.empty(B * h * w, dtype=torch.int64, device=latents.device)
    errors = codebook.new_empty(B * h * w)
    counts, sums = codebook.new_zeros(len(codebook)), torch.zeros_like(codebook)
    row_weights = None if weights is None else weights.to(errors).repeat_interleave(h * w)
    start = 0
    for rows in _split_rows(latents, chunk_rows):
        part = slice(start, start := start + rows.shape[0])
        found = search(rows.to(codebook.dtype))
        nearest = codebook.index_select(0, found)
        codes[part] = found
        quantized[part] = nearest
        errors[part] = nearest.sub_(rows).square_().sum(1)
        if row_weights is None:
            counts.index_add_(0, found, torch.ones_like(errors[part]))
        else:
            counts.index_add_(0, found, row_weights[part])
            weight = row_weights[part, None]
            rows = torch.where(weight == 0, 0.0, rows * weight)  # 0 times NaN would be NaN
        sums.index_add_(0, found, rows)
    return Assignment(
        quantized.view(B, h, w, D).permute(0, 3, 1, 2),
        codes.view(B, h, w),
        errors.view(B, -1).mean(1) / D,
        counts,
        sums,
    )


def to_at_least_fp32(tensor: Tensor) -> Tensor:
    """Return the tensor in fp32; float64 stays float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _build_search(codebook: Tensor) -> tuple[CodeSearch, int]:
    """Return the search and the number of latents per chunk."""
    on_cpu = codebook.device.type == "cpu"
    search = CPUCodeSearch(codebook) if on_cpu else CodeSearch(codebook)
    rows = (CPU_CHUNK_BYTES if on_cpu else GPU_CHUNK_BYTES) // search.row_bytes
    return search, max(CONV_BATCH, rows // CONV_BATCH * CONV_BATCH)


def _split_rows(latents: Tensor, max_rows: int) -> Iterator[Tensor]:
    """Yield the latents of all positions, in order, as (at most max_rows, D) in fp32."""
    D, h, w = latents.shape[1:]
    for samples in latents.split(max(1, max_rows // (h * w))):
        for rows in samples.permute(0, 2, 3, 1).reshape(-1, D).split(max_rows):
            yield to_at_least_fp32(rows).contiguous()
