"""Masks are found by the names of the slices and read as True and False."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdist.foundation.errors import DataError
from vqdist.inference.mask_files import find_masks, identify, read_mask


def write(folder: Path, *names: str, values: np.ndarray | None = None) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 5), np.uint8) if values is None else values).save(folder / name)
    return [folder / name for name in names]


@pytest.mark.parametrize(
    ("picture", "mask"),
    [
        ("a.png", "a.png"),
        ("case_040_slice_0_lesion.png", "case_040_slice_0_mask.png"),
        ("patient07_slice_12.png", "patient07_mask_12.png"),
        ("sub-3_T1.png", "sub-3_T1_seg.png"),
        ("IMG_7.JPG", "mask-007.png"),
        ("case_1_slice_2.nii.png", "case_1_slice_2.png"),
    ],
)
def test_names_that_belong_together(picture: str, mask: str, tmp_path: Path) -> None:
    others = write(tmp_path, "case_999_slice_1_mask.png", mask)
    assert find_masks(tmp_path, [f"somewhere/{picture}", "other_5.png"]) == [others[1], None]


def test_the_same_name_comes_before_the_same_identity(tmp_path: Path) -> None:
    write(tmp_path, "a_1.png", "a_1_label.png", "b_1_mask.png", "b_1_slice_mask.png")
    assert find_masks(tmp_path, ["a_1.png", "b_1_mask.png"]) == [tmp_path / "a_1.png", tmp_path / "b_1_mask.png"]


def test_masks_beside_the_pictures(tmp_path: Path) -> None:
    write(tmp_path, "a_1.png", "a_1_mask.png", "a_2.png")
    names = [str(tmp_path / name) for name in ("a_1.png", "a_2.png")]
    assert find_masks(tmp_path, names, within=tmp_path) == [tmp_path / "a_1_mask.png", None]


def test_masks_beside_copies_of_the_pictures(tmp_path: Path) -> None:
    """The pictures are in another folder, and the folder of masks holds copies of them."""
    write(tmp_path, "p07_slice_1.png", "p07_mask_1.png", "p07_slice_2.png", "p07_mask_2.png")
    found = find_masks(tmp_path, ["pictures/p07_slice_1.png", "pictures/p07_slice_2.png"], within=tmp_path / "pictures")
    assert [path.name for path in found if path is not None] == ["p07_mask_1.png", "p07_mask_2.png"]


def test_one_file_is_the_mask_of_all(tmp_path: Path) -> None:
    (path,) = write(tmp_path, "hole.png")
    assert find_masks(path, ["a", "b"]) == [path, path]


def test_numbers_and_words_decide() -> None:
    assert identify("case_040_slice_0_lesion.png") == ("case", "40", "0")
    assert identify("case_040_slice_1.png") != identify("case_040_slice_10.png")


def test_no_mask_and_several_masks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no masks; expected a mask, or a folder of masks named like the slices"):
        find_masks(tmp_path, ["a_1.png"])
    with pytest.raises(DataError, match="none: found nothing; expected a mask"):
        find_masks(tmp_path / "none", ["a_1.png"])
    write(tmp_path, "x/a_1_mask.png")
    with pytest.raises(DataError, match="no mask of any of 2 slices; expected masks named like the slices, for exa"):
        find_masks(tmp_path, ["b_1.png", "b_2.png"])
    write(tmp_path, "y/a_1_mask.png")
    with pytest.raises(DataError, match=r"a_1\.png: found 2 masks, for example"):
        find_masks(tmp_path, ["a_1.png"])


@pytest.mark.parametrize("white", [1, 3, 255])
def test_white_is_true(white: int, tmp_path: Path) -> None:
    values = np.zeros((4, 5), np.uint8)
    values[1, 2:4] = white
    (path,) = write(tmp_path, "mask.png", values=values)
    np.testing.assert_array_equal(read_mask(path, (4, 5)), values > 0)


def test_grey_edges_are_rounded_and_other_sizes_refused(tmp_path: Path) -> None:
    values = np.full((4, 5), 100, np.uint8)
    values[0] = 200
    (path,) = write(tmp_path, "mask.png", values=values)
    np.testing.assert_array_equal(read_mask(path, (4, 5)), values > 127)
    with pytest.raises(DataError, match=r"expected 8 x 8 pixels \(height x width\), the size of its slice"):
        read_mask(path, (8, 8))
