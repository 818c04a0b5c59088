"""A folder of sampled slices: the PNG files, and the class and slice number that each was sampled for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.data.loading.batch import NO_NUMBER, to_images
from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import load_json

_MAX_JSON_BYTES = 2**28

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SampleFolder:
    """The slices in a folder that `vqdist sample` has written, or in a folder of other PNG files.

    Attributes:
        paths: the PNG files.
        slice_numbers, labels: (N,) slice number and class that each was sampled for, NO_NUMBER if there is none.
        subjects: (N,) `subject` of each in samples.json, where slices of one volume have one; else its file name.
    """

    paths: list[Path]
    slice_numbers: Integers
    labels: Integers
    subjects: npt.NDArray[np.str_]

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """List the slices of a folder.

        Raises:
            DataError: fewer than two PNG files, or an invalid samples.json.
        """
        folder = Path(folder)
        description = folder / "samples.json"
        names = sorted(path.name for path in folder.glob("*.png"))
        unknown = {name: (NO_NUMBER, NO_NUMBER, name) for name in names}
        found = _read_conditions(description) if description.is_file() else unknown
        found.pop("grid.png", None)
        if len(found) < 2:
            expected = "at least two slices, as vqdist sample writes them"
            raise DataError.of(str(folder), f"{len(found)} PNGs", expected)
        slice_numbers, labels, subjects = zip(*found.values(), strict=True)
        paths = [folder / name for name in found]
        return cls(paths, np.array(slice_numbers, np.int64), np.array(labels, np.int64), np.array(subjects))

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, numbers: Integers, real: Manifest) -> Tensor:
        """Return some slices, (B, C, H, W) in [0, 1].

        Args:
            real: manifest of the real slices, which have the same size and channels.
        Raises:
            DataError: a file cannot be read, or its slice has another size or other channels.
        """
        pixels = []
        for path in (self.paths[number] for number in numbers):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError.of(str(path), error.strerror or str(error), "a sample") from error
            pixels.append(decode_png(data, image_size=real.image_size, channels=real.channels, where=str(path)))
        return to_images(torch.from_numpy(np.stack(pixels)))


def _read_conditions(path: Path) -> dict[str, tuple[int, int, str]]:
    """Return file name -> slice number, label and subject of each sample in a samples.json.

    Names must not leave the folder.
    """
    match load_json(path, _MAX_JSON_BYTES):
        case {"samples": list(samples)} if all(isinstance(sample, dict) for sample in samples):
            names = [sample.get("file") for sample in samples]
            if all(isinstance(name, str) and Path(name).name == name for name in names):
                return {
                    name: (
                        _read_number(sample, "slice"),
                        _read_number(sample, "label"),
                        str(sample.get("subject", name)),
                    )
                    for name, sample in zip(names, samples, strict=True)
                }
    raise DataError.of(str(path), "no list of samples with their files", "a file that vqdist sample has written")


def _read_number(sample: Mapping[str, Any], name: str) -> int:
    number = sample.get(name)
    return number if type(number) is int and 0 <= number < 2**63 else NO_NUMBER
