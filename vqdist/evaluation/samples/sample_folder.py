"""A folder of samples: which PNGs they are, and the slice number that each was asked for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.data.loading.batch import to_images
from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import load_json

NO_SLICE = -1
_MAX_JSON_BYTES = 2**28

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SampleFolder:
    """The slices in a folder that `vqdist.sample` wrote, or PNGs of the same size from elsewhere.

    Attributes:
        paths: the PNGs.
        slices: (N,) slice number that each was asked for, NO_SLICE where none.
    """

    paths: list[Path]
    slices: Integers
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path, manifest: Manifest) -> "SampleFolder":
        """List the slices.

        Args:
            manifest: of the real images, whose size and channels the samples must have.
        Raises:
            DataError: fewer than two PNGs.
        """
        slices = find_samples(folder)
        return cls([Path(folder) / name for name in slices], np.array(list(slices.values())), manifest)

    def read(self, numbers: Integers | list[int]) -> Tensor:
        """Return some slices, (B, C, H, W) in [0, 1]."""
        size, channels = self.manifest.image_size, self.manifest.channels
        pixels = []
        for number in numbers:
            path = self.paths[number]
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError.of(str(path), error.strerror or str(error), "a sample") from error
            pixels.append(decode_png(data, image_size=size, channels=channels, where=str(path)))
        return to_images(torch.from_numpy(np.stack(pixels)))


def find_samples(folder: str | Path) -> dict[str, int]:
    """Return name and slice number (or NO_SLICE) of each sample of a folder.

    Raises:
        DataError: fewer than two PNGs.
    """
    told = Path(folder) / "samples.json"
    names = sorted(path.name for path in Path(folder).glob("*.png"))
    slices = _read_slices(told) if told.is_file() else dict.fromkeys(names, NO_SLICE)
    slices.pop("grid.png", None)
    if len(slices) < 2:
        raise DataError.of(str(folder), f"{len(slices)} PNGs", "at least two samples, as vqdist.sample writes them")
    return slices


def _read_slices(path: Path) -> dict[str, int]:
    """Return name and slice number of each sample of a samples.json; names that leave the folder are refused."""
    told = load_json(path, _MAX_JSON_BYTES)
    match told:
        case {"samples": list(samples)} if all(isinstance(one, dict) for one in samples):
            names = [one.get("file") for one in samples]
            if all(isinstance(name, str) and Path(name).name == name for name in names):
                numbers = [one.get("slice") for one in samples]
                return {
                    str(name): number if type(number) is int else NO_SLICE
                    for name, number in zip(names, numbers, strict=True)
                }
    raise DataError.of(str(path), "no list of samples with their files", "what vqdist.sample writes")
