"""Limits of a volume's header."""

import numpy as np
import pytest

from vqdist.data.sources.volume_limits import VolumeError, check_shape, check_sides


def test_a_series_of_one_volume_is_a_volume() -> None:
    assert check_shape((4, 5, 6)) == check_shape((4, 5, 6, 1)) == check_shape((4, 5, 6, 1, 1)) == (4, 5, 6)


@pytest.mark.parametrize(
    ("shape", "found", "expected"),
    [
        ((4, 5, 6, 7), r"a 4-D series of 7 volumes \(4 x 5 x 6 x 7\)", "nib-roi -t 0:1"),
        ((4, 5, 6, 1, 3), "a 5-D array of 4 x 5 x 6 x 1 x 3", "slicer"),
        ((8, 9), "an array of 8 x 9", "at least 2 x 2 x 2 voxels"),
        ((8, 9, 1), "an array of 8 x 9 x 1", "at least 2 x 2 x 2 voxels"),
        ((4096, 4096, 4096), "voxels, more than 268435456", "a whole 3-D volume"),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], found: str, expected: str) -> None:
    with pytest.raises(VolumeError, match=found) as caught:
        check_shape(shape)
    assert expected in caught.value.expected


def test_sides_are_positive_numbers() -> None:
    assert check_sides((1, -2, 0.5)).tolist() == [1, 2, 0.5]
    for sides in ((1, 1, 0), (1, 1, np.nan), (1, np.inf, 1), (1, 1)):
        with pytest.raises(VolumeError, match="voxels of"):
            check_sides(sides)
