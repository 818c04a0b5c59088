"""Reading of the pictures of a folder, with one intensity range for all pictures of a subject with more than 8 bits."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from vqdist.data.sources.pictures import SIXTEEN_BITS, GreyKind, GreyRanges, load_picture, measure_grey_range
from vqdist.foundation.progress import print_message

GreyRange = Literal["auto", "dtype"] | tuple[float, float]


def _read_given(grey_range: GreyRange) -> GreyRanges | None:
    """Return the ranges of a setting; None if they are measured."""
    if grey_range == "auto":
        return None
    return {"integer": SIXTEEN_BITS} if grey_range == "dtype" else {"integer": grey_range, "float": grey_range}


class SubjectPictures:
    """Loads pictures so that equal values of a subject have equal grey levels.

    Float and 32-bit pictures, and 12-bit values in 16-bit files, have no fixed white. Scaled one by one, a dark slice
    would become as bright as its neighbours. Their subject's range is from the lowest black to the highest white of its
    pictures (`measure_grey_range`), measured when the first of them is read. A subject with a single picture has that
    picture's range.

    Args:
        root: folder of the pictures.
        files: (path inside the folder, subject) of each picture.
        image_size, channels: as for `load_picture`.
        grey_range: the values of black and white of pictures of more than 8 bits; "dtype": 0 and 65535 for integers;
            "auto": as above.
    """

    def __init__(
        self,
        root: Path,
        files: Iterable[tuple[str, str]],
        *,
        image_size: int,
        channels: int,
        grey_range: GreyRange = "auto",
    ) -> None:
        self._root, self._image_size, self._channels = root, image_size, channels
        self._sources: dict[str, list[str]] = defaultdict(list)
        for source, subject in files:
            self._sources[subject].append(source)
        self._given = _read_given(grey_range)
        self._ranges: dict[str, GreyRanges] = {}

    def load(self, source: str, subject: str, report: Callable[[str], None] = print_message) -> np.ndarray:
        """Read a picture as `load_picture` does.

        Args:
            report: called with messages about the picture.
        Raises:
            DataError: it cannot be read.
        """
        return load_picture(
            self._root / source,
            image_size=self._image_size,
            channels=self._channels,
            read_ranges=lambda: self._find_ranges(subject) if self._given is None else self._given,
            report=report,
        )

    def _find_ranges(self, subject: str) -> GreyRanges:
        if subject not in self._ranges:
            self._ranges[subject] = self._measure_ranges(subject)
        return self._ranges[subject]

    def _measure_ranges(self, subject: str) -> GreyRanges:
        sources = self._sources[subject]
        if len(sources) < 2:
            return {}
        found: dict[GreyKind, list[tuple[float, float]]] = defaultdict(list)
        for source in sources:
            measured = measure_grey_range(self._root / source)
            if measured is not None and measured[1] is not None:
                found[measured[0]].append(measured[1])
        return {
            kind: (min(low for low, _ in ranges), max(high for _, high in ranges)) for kind, ranges in found.items()
        }
