"""Checks of what callers pass to the models: UserError with what to pass instead, not an error of an inner layer.

They read shapes and dtypes, and the values of images and codes on a CPU only: on an accelerator that would wait for the
device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vqdist.foundation.errors import Problem, UserError

IMAGE_MARGIN = 0.5  # noise and interpolation may exceed [0, 1]


def require_images(images: Any, *, channels: int, weight: Tensor) -> None:
    """Check that images are (B, C, H, W) float, in the dtype of the weights unless autocast converts them.

    On a CPU, values far outside of [0, 1] are refused. NaN is not: training skips such steps.
    """
    expected = f"(B, {channels}, H, W): the model has {channels} channel(s)"
    _require_tensor("images", images, f"a float tensor {expected}")
    if not images.is_floating_point():
        raise UserError.of("images", images.dtype, "float values in [0, 1]: bytes divided by 255")
    if images.ndim != 4 or images.shape[1] != channels:
        raise UserError.of("images", f"shape {tuple(images.shape)}", expected)
    _require_dtype("images", images, weight)
    if images.device.type == "cpu" and not torch.compiler.is_compiling() and images.numel():
        low, high = (float(value) for value in images.aminmax())
        if low < -IMAGE_MARGIN or high > 1 + IMAGE_MARGIN:
            found = f"values from {low:.4g} to {high:.4g}"
            raise UserError.of("images", found, "values in [0, 1]: grey values divided by 255, not standardised")


def require_latents(latents: Any, *, code_dim: int) -> None:
    """Check that latents are (B, D, h, w) float."""
    expected = f"(B, {code_dim}, h, w): the codes have {code_dim} dimensions"
    _require_tensor("latents", latents, f"a float tensor {expected}")
    if not latents.is_floating_point():
        raise UserError.of("latents", latents.dtype, "a float dtype")
    if latents.ndim != 4 or latents.shape[1] != code_dim:
        raise UserError.of("latents", f"shape {tuple(latents.shape)}", expected)


def require_codes(codes: Any, *, num_codes: int) -> None:
    """Check that codes are (B, h, w) int64 and, on a CPU, in [0, K)."""
    if problems := find_code_problems(codes, num_codes):
        raise UserError(problems)


def find_code_problems(codes: Any, num_codes: int) -> list[Problem]:
    """Return a problem unless codes are (B, h, w) int64 and, on a CPU, in [0, K)."""
    if not isinstance(codes, Tensor):
        return [Problem("codes", type(codes).__name__, "an int64 tensor (B, h, w)")]
    if codes.dtype not in (torch.int64, torch.int32):
        return [Problem("codes", str(codes.dtype), "torch.int64")]
    if codes.ndim != 3:
        return [Problem("codes", f"shape {tuple(codes.shape)}", "(B, h, w)")]
    if codes.device.type == "cpu" and not torch.compiler.is_compiling() and codes.numel():
        low, high = (int(value) for value in codes.aminmax())
        if low < 0 or high >= num_codes:
            return [Problem("codes", str(low if low < 0 else high), f"numbers in [0, {num_codes})")]
    return []


def require_grid(grid: Any) -> tuple[int, int]:
    """Return the size (h, w) of a map."""
    if isinstance(grid, list | tuple) and len(grid) == 2 and all(isinstance(side, int) for side in grid):
        return grid[0], grid[1]
    raise UserError.of("grid", repr(grid), "two whole numbers (h, w)")


def require_particles(count: Any) -> None:
    """Check that a number of particles is a whole number of at least 1."""
    if not isinstance(count, int) or count < 1:
        raise UserError.of("particles", repr(count), "a whole number of at least 1")


def find_condition_problems(
    name: str, values: Tensor | None, *, num: int, limit: int, required: bool, least: int = 0
) -> list[Problem]:
    """Return a problem unless a condition is (num,) numbers below the limit, or None for a model without it.

    Args:
        name: label or slice.
        required: whether the model is conditioned on it.
        least: the smallest value.
    """
    if values is None:
        expected = f"{num} numbers in [0, {limit}), as the model is conditioned on {name}"
        return [Problem(name, "none", expected)] if required else []
    if not required:
        return [Problem(name, "a value", f"none, as the model is not conditioned on {name}")]
    if not isinstance(values, Tensor):
        return [Problem(name, type(values).__name__, f"an int64 tensor of shape ({num},)")]
    if values.shape != (num,) or values.is_floating_point():
        found = f"{values.dtype} of shape {tuple(values.shape)}"
        return [Problem(name, found, f"int64 of shape ({num},)")]
    if values.device.type == "cpu" and not torch.compiler.is_compiling() and num > 0:
        low, high = int(values.min()), int(values.max())
        if low < least or high >= limit:
            return [Problem(name, str(low if low < least else high), f"a number in [0, {limit})")]
    return []


def find_previous_problems(
    previous: Any, *, num: int, grid: Sequence[int] | None, num_codes: int | None
) -> list[Problem]:
    """Return a problem unless previous maps are (num, h, w) int64 in [-1, K), or None.

    Args:
        grid: (h, w) of the maps; None if it is not known yet.
        num_codes: K; None for a model that takes no previous maps.
    """
    if previous is None:
        return []
    if num_codes is None:
        return [Problem("previous", "maps", "none, as the model was built with context none")]
    if not isinstance(previous, Tensor) or previous.dtype not in (torch.int64, torch.int32) or previous.ndim != 3:
        found = f"{previous.dtype} of shape {tuple(previous.shape)}" if isinstance(previous, Tensor) else type(previous)
        return [Problem("previous", str(found), f"int64 of shape ({num}, h, w)")]
    if len(previous) != num:
        return [Problem("previous", f"{len(previous)} maps", f"{num}, one for each map; all -1 for none")]
    if grid is not None and tuple(previous.shape[1:]) != tuple(grid):
        found, expected = (f"maps of {h} x {w}" for h, w in (previous.shape[1:], grid))
        return [Problem("previous", found, f"{expected}, the size of the maps")]
    if previous.device.type == "cpu" and not torch.compiler.is_compiling() and previous.numel():
        low, high = (int(value) for value in previous.aminmax())
        if low < -1 or high >= num_codes:
            return [Problem("previous", str(low if low < -1 else high), f"numbers in [-1, {num_codes})")]
    return []


def expand_condition(value: int | Tensor | None, num: int) -> Tensor | None:
    """Return one value per map, on the CPU, where its range can be checked without waiting for a device."""
    if value is None:
        return None
    try:
        values = torch.as_tensor(value).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError.of("label or slice", repr(value), "a whole number, or one for each map") from error
    return values.expand(num) if values.ndim == 0 else values


def _require_tensor(name: str, values: Any, expected: str) -> None:
    if not isinstance(values, Tensor):
        raise UserError.of(name, type(values).__name__, expected)


def _require_dtype(name: str, values: Tensor, weight: Tensor) -> None:
    if values.dtype != weight.dtype and not torch.is_autocast_enabled(values.device.type):
        raise UserError.of(name, values.dtype, f"{weight.dtype}, the dtype of the weights, or torch.autocast")
