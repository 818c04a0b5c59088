"""A folder of sampled slices or volumes, and the class and slice number that each slice was sampled for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.config.attributes import AttributeValue
from vqdist.data.loading.batch import NO_NUMBER, to_images
from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import Manifest
from vqdist.data.sources.result_folders import MAX_JSON_BYTES, SAMPLES, read_attributes, read_entries, read_number
from vqdist.data.sources.volumes import open_volume
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import load_json
from vqdist.foundation.progress import count_noun

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SampleFolder:
    """The slices in a folder that `vqdist sample` has written, or in a folder of other PNG files.

    Attributes:
        paths: the file of each slice: a PNG, or the NIfTI file of its volume.
        slice_numbers, labels: (N,) slice number and class that each was sampled for, NO_NUMBER if there is none.
        subjects: (N,) `subject` of each in samples.json, where slices of one volume have one; else its file name.
        depth: slices per volume; 0 for single slices.
        attributes: known attributes that each was sampled for, such as its age.
    """

    paths: list[Path]
    slice_numbers: Integers
    labels: Integers
    subjects: npt.NDArray[np.str_]
    depth: int = 0
    attributes: Sequence[Mapping[str, AttributeValue]] = ()

    @classmethod
    def open(cls, folder: str | Path) -> "SampleFolder":
        """List the slices of a folder.

        Raises:
            DataError: fewer than two slices, or an invalid samples.json.
        """
        folder = Path(folder)
        if not folder.is_dir():
            expected = "a folder of slices, as `vqdist sample --out` writes it"
            raise DataError.of(str(folder), "a file" if folder.exists() else "no such folder", expected)
        description = folder / SAMPLES
        if description.is_file() and (volumes := _read_volumes(description)) is not None:
            return volumes
        names = sorted(path.name for path in folder.glob("*.png"))
        unknown: dict[str, Mapping[str, Any]] = {name: {} for name in names}
        found = read_entries(folder) or unknown
        found.pop("grid.png", None)
        if len(found) < 2:
            expected = "at least two slices, as vqdist sample writes them"
            raise DataError.of(str(folder), count_noun(len(found), "PNG"), expected)
        slice_numbers, labels = (
            np.array([_number_of(sample, name) for sample in found.values()], np.int64) for name in ("slice", "label")
        )
        subjects = np.array([str(sample.get("subject", name)) for name, sample in found.items()])
        attributes = [read_attributes(sample) for sample in found.values()]
        return cls([folder / name for name in found], slice_numbers, labels, subjects, attributes=attributes)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, numbers: Integers, real: Manifest) -> Tensor:
        """Return some slices, (B, C, H, W) in [0, 1].

        Args:
            real: manifest of the real slices, which have the same size and channels.
        Raises:
            DataError: a file cannot be read, or its slice has another size or other channels.
        """
        if self.depth:
            return self._read_from_volumes(numbers, real)
        pixels = []
        for path in (self.paths[number] for number in numbers):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError.of(str(path), error.strerror or str(error), "a sample") from error
            pixels.append(decode_png(data, image_size=real.image_size, channels=real.channels, where=str(path)))
        return to_images(torch.from_numpy(np.stack(pixels)))

    def _read_from_volumes(self, numbers: Integers, real: Manifest) -> Tensor:
        slices = []
        for number in numbers.tolist():
            volume = _read_volume(self.paths[number], (*real.image_size, self.depth))
            slices.append(volume[None, :, :, number % self.depth].repeat(real.channels, axis=0))
        return to_images(torch.from_numpy(np.stack(slices)))

    def list_volumes(self) -> list[list[int]]:
        """Return the numbers of the slices of each volume, from bottom to top."""
        return np.arange(len(self)).reshape(-1, self.depth).tolist()

    def read_codes(self) -> npt.NDArray[np.int64] | None:
        """Return the codes of the volumes, (V, S, h, w); None if they are not stored beside them."""
        path = self.paths[0].parent / "codes.npy"
        if not path.is_file():
            return None
        codes = np.load(path, allow_pickle=False)
        if codes.ndim != 4 or codes.shape[:2] != (len(self) // self.depth, self.depth):
            expected = f"({len(self) // self.depth}, {self.depth}, h, w), those of the volumes"
            raise DataError.of(str(path), f"codes of shape {codes.shape}", expected)
        return codes


def _read_volumes(path: Path) -> SampleFolder | None:
    """Return the slices of the volumes in samples.json; None for one of single slices."""
    match load_json(path, MAX_JSON_BYTES):
        case {"volumes": list(volumes), "slices": list(numbers)} if volumes and len(numbers) > 1:
            names = [str(volume.get("file")) if isinstance(volume, dict) else "" for volume in volumes]
            whole = all(type(number) is int and number >= 0 for number in numbers)
            if whole and all(name and Path(name).name == name for name in names):
                labels = np.repeat([_number_of(volume, "label") for volume in volumes], len(numbers))
                paths = [path.parent / str(name) for name in names for _ in numbers]
                tiled = np.tile(np.array(numbers, np.int64), len(volumes))
                attributes = [found for volume in volumes for found in [read_attributes(volume)] * len(numbers)]
                subjects = np.repeat(names, len(numbers))
                return SampleFolder(paths, tiled, labels, subjects, len(numbers), attributes)
        case {"volumes": _}:
            pass
        case _:
            return None
    raise DataError.of(str(path), "no list of volumes with their files", "a file that vqdist sample has written")


@lru_cache(maxsize=2)
def _read_volume(path: Path, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Return the grey values of a sampled volume, (H, W, S)."""
    found = open_volume(path, image_size=max(shape)).scan
    if found.values.shape != shape:
        sizes = [" x ".join(map(str, size)) for size in (found.values.shape, shape)]
        raise DataError.of(str(path), f"{sizes[0]} voxels", f"{sizes[1]}, as the real slices have")
    return found.values.astype(np.uint8)


def _number_of(sample: Mapping[str, Any], name: str) -> int:
    number = read_number(sample, name)
    return NO_NUMBER if number is None else number
