"""An opened source of slices: its files with their subjects, and the function that reads the slices of a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vqdist.config.attributes import AttributeValue, Kind
from vqdist.foundation.errors import Problem
from vqdist.foundation.json_validation import AffineRows
from vqdist.foundation.progress import print_message


@dataclass(frozen=True)
class SourceFile:
    """One picture, volume or synthetic brain.

    Attributes:
        source: path inside the source's folder, with slashes.
        subject: name of the subject, which is in one split only.
        key: readable and unique, without dots; the first part of the keys of its samples.
        split: split of the source's folders, or None.
        label: number of the class, or None.
        slice: slice number in the name of a picture, or None.
        attributes: name -> value of each known attribute, such as the age of the subject.
    """

    source: str
    subject: str
    key: str = ""
    split: str | None = None
    label: int | None = None
    slice: int | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceSlice:
    """One slice: the key of its sample, its slice number or None, and its image, (C, H, W) uint8.

    Attributes:
        affine: from (row, column, slice number) to millimetres; None for pictures of unknown position.
    """

    key: str
    slice: int | None
    image: npt.NDArray[np.uint8]
    affine: AffineRows | None = None


class Reader(Protocol):
    """Returns the slices of a file and reports messages about it; can be pickled, for worker processes."""

    def __call__(self, file: SourceFile, report: Callable[[str], None] = print_message) -> list[SourceSlice]: ...


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        layout: one of `layouts.LAYOUTS`, "webdataset" or "demo".
        files: in natural order.
        channels: 1 or 3.
        class_names: name of each label; empty without classes.
        passed_over: other files in the folder, which are not part of the layout.
        read: returns the slices of a file; raises DataError, which names the file, if it cannot be read.
        masks: segmentation masks in the folder, which are left out.
        subject_summary: one line that says how the subjects were identified.
        no_classes: why the folders of the files are no classes; empty if there are classes, or no such folders.
        doubts: signs that subjects or classes were misunderstood, that masks are among the files, or that subjects
            have several kinds of volumes.
        attribute_kinds: kind of each attribute that files have.
    """

    layout: str
    files: tuple[SourceFile, ...]
    channels: int
    class_names: tuple[str, ...]
    passed_over: tuple[str, ...]
    read: Reader
    masks: tuple[str, ...] = ()
    subject_summary: str = ""
    no_classes: str = ""
    doubts: tuple[Problem, ...] = ()
    attribute_kinds: Mapping[str, Kind] = field(default_factory=dict)

    @property
    def by_volume(self) -> bool:
        """Whether a file is a volume of many slices."""
        return self.layout in ("nifti", "oasis1")


def number_slices(
    file: SourceFile, slices: npt.NDArray[np.uint8], channels: int, affine: AffineRows
) -> list[SourceSlice]:
    """Build the slices of a volume, (n, H, W), with numbers from 0."""
    return [
        SourceSlice(f"{file.key}_slice_{number:03d}", number, np.repeat(image[None], channels, axis=0), affine)
        for number, image in enumerate(slices)
    ]
