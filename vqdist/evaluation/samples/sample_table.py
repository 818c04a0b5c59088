"""The samples of a PixelCNN one by one: file, conditions and bits, for the report and for W&B."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqdist.config.attributes import UNKNOWN
from vqdist.data.loading.batch import NO_NUMBER
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.foundation.errors import UserError
from vqdist.models.pixelcnn import PixelCNN

CODES_FILE = "codes.npy"
MAPS_PER_PASS = 16


def list_samples(samples: SampleFolder, prior: PixelCNN | None, ranks: Ranks) -> list[dict[str, Any]]:
    """Return file, label, slice, attributes and bits per code of each sample.

    Args:
        prior: the PixelCNN that drew them; None leaves the bits out.
    Returns:
        A row per sample: a slice, or a volume without slice number and bits. A condition that no sample has is left
        out, and so are bits that cannot be computed, because the folder is not one that vqdist sample wrote for this
        PixelCNN.
    """
    columns: dict[str, Sequence[Any]] = {"label": list(map(_none_if_missing, samples.labels.tolist()))}
    if not samples.depth:
        columns["slice"] = list(map(_none_if_missing, samples.slice_numbers.tolist()))
    names = dict.fromkeys(name for found in samples.attributes for name in found)
    columns |= {name: [found.get(name) for found in samples.attributes] for name in names}
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    bits = None if prior is None or samples.depth else _measure_bits(samples, prior, ranks)
    columns |= {} if bits is None else {"bits_per_code": bits}
    return [
        {"file": samples.paths[number].name, **{name: values[number] for name, values in columns.items()}}
        for number in range(0, len(samples), samples.depth or 1)
    ]


def find_picture(folder: Path, file: str) -> Path:
    """Return the PNG that shows a sample: its file, or the views of its volume."""
    return folder / (file.removesuffix(".nii.gz") + ".png" if file.endswith(".nii.gz") else file)


def _measure_bits(samples: SampleFolder, prior: PixelCNN, ranks: Ranks) -> list[float] | None:
    codes = _read_codes(samples.paths[0].parent / CODES_FILE, len(samples), prior.num_codes)
    wanted = {"label": samples.labels, "slice": samples.slice_numbers}
    wanted = {name: values for name, values in wanted.items() if name in prior.condition}
    if codes is None or any((values == NO_NUMBER).any() for values in wanted.values()):
        return None
    prior, bits = prior.to(ranks.device), []
    for start in range(0, len(codes), MAPS_PER_PASS):
        part = slice(start, start + MAPS_PER_PASS)
        numbers = {name: torch.from_numpy(values[part]) for name, values in wanted.items()}
        attributes = {
            name: [given.get(name, UNKNOWN) for given in samples.attributes[part]] for name in prior.spec.attributes
        }
        count, label, number = len(codes[part]), numbers.get("label"), numbers.get("slice")
        try:
            known = prior.spec.expand(count, label, number, attributes, extrapolate=True)
        except UserError:  # conditions of another prior
            return None
        bits += prior.bits(codes[part], conditions=known).mean(dim=(1, 2)).tolist()
    return bits


def _read_codes(path: Path, count: int, num_codes: int) -> Tensor | None:
    """Return the code maps (count, h, w) of a folder of samples, None if there are no fitting ones."""
    try:
        codes = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return None
    fits = codes.ndim == 3 and len(codes) == count and np.issubdtype(codes.dtype, np.integer)
    if not fits or codes.min() < 0 or codes.max() >= num_codes:
        return None
    return torch.from_numpy(codes.astype(np.int64))


def _none_if_missing(number: int) -> int | None:
    return None if number == NO_NUMBER else number
