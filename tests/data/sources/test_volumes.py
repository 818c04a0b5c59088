"""Volumes give the same slices for any order of axes, byte order, voxel size or number type."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from vqdist.data.sources.volumes import slice_volume
from vqdist.foundation.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "data"
RAS_MM = np.diag([1.0, 1, 1, 1])


def blob(shape: tuple[int, int, int] = (30, 40, 24)) -> np.ndarray:
    """Return an ellipsoid in RAS whose grey value increases to the right, the front and the top."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.where(x**2 + y**2 + z**2 < 0.8, 500 + 150 * x + 100 * y + 50 * z, 0).astype(np.float32)


def save(path: Path, data: np.ndarray, affine: np.ndarray = RAS_MM) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def slices(path: Path, **options: int) -> np.ndarray:
    return slice_volume(path, **{"num_slices": 8, "image_size": 40, **options}).astype(int)


def test_rows_go_left_to_right_and_columns_back_to_front(tmp_path: Path) -> None:
    found = slices(save(tmp_path / "a.nii", blob()))
    assert found.shape == (8, 40, 40)
    middle = found[4]
    assert middle[30, 20] > middle[10, 20] > 0
    assert middle[20, 35] > middle[20, 5] > 0
    assert found[7, 20, 20] > found[0, 20, 20]
    expected = np.clip(np.round(blob()[..., 8:16] * (255 / np.percentile(blob()[blob() > 0], 99.8))), 0, 255)
    assert np.array_equal(found[:, 5:35], expected.transpose(2, 0, 1))


@pytest.mark.parametrize("axes", ["LAS", "RPI", "ASR", "PIL"])
def test_the_affine_determines_the_orientation(tmp_path: Path, axes: str) -> None:
    there = nibabel.orientations.axcodes2ornt(axes)
    turn = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), there)
    turned = nibabel.Nifti1Image(blob(), RAS_MM).as_reoriented(turn)
    assert "".join(nibabel.aff2axcodes(turned.affine)) == axes
    nibabel.save(turned, tmp_path / "b.nii.gz")
    assert np.array_equal(slices(tmp_path / "b.nii.gz"), slices(save(tmp_path / "a.nii", blob())))


def test_unequal_voxels_are_resampled_to_equal_sides(tmp_path: Path) -> None:
    """A ball of 20 mm, in voxels of 1 x 2 x 0.5 mm, is round in the plane and across it."""
    x, y, z = np.meshgrid(np.arange(40) - 19.5, (np.arange(20) - 9.5) * 2, (np.arange(80) - 39.5) / 2, indexing="ij")
    ball = np.where(np.sqrt(x**2 + y**2 + z**2) < 14, 100, 0).astype(np.int16)
    found = slices(save(tmp_path / "a.nii", ball, np.diag([1, 2, 0.5, 1])), num_slices=80, image_size=80)
    assert found.shape == (80, 80, 80)
    bright = found > 127
    widths = [bright.any(axis=axes).sum() for axes in ((1, 2), (0, 2), (0, 1))]
    assert max(widths) - min(widths) <= 2
    assert abs(widths[0] - 56) <= 2


def test_a_human_head_is_resampled_to_1_mm_in_the_oasis_frame(tmp_path: Path) -> None:
    x, y, z = np.meshgrid(*((np.arange(size) - size / 2 + 0.5) * 2 for size in (80, 95, 70)), indexing="ij")
    head = np.where((x / 60) ** 2 + (y / 80) ** 2 + (z / 60) ** 2 < 1, 100, 0).astype(np.float64)
    found = slices(save(tmp_path / "a.nii", head, np.diag([2.0, 2, 2, 1])), num_slices=1, image_size=256)
    rows, columns = ((found[0] > 127).any(axis=axis).sum() for axis in (1, 0))
    assert abs(rows - 120) <= 2
    assert abs(columns - 160) <= 2


def test_every_number_type_gives_the_same_slices(tmp_path: Path) -> None:
    expected = slices(save(tmp_path / "a.nii", blob()))
    holes = blob().astype(np.float64) * 1e-3
    holes[holes == 0] = np.nan
    hot = blob()
    hot[15, 20, 12] = 1e6
    ringing = blob()
    ringing[0, :, :5] = -1
    for name, data in {"nan": holes, "hot": hot, "ringing": ringing, "int": blob().astype(np.int16)}.items():
        found = slices(save(tmp_path / f"{name}.nii.gz", data))
        assert np.abs(found - expected).max() <= (255 if name == "hot" else 1), name
        assert (np.abs(found - expected) > 1).sum() <= 1, name


def test_values_below_zero_keep_a_black_background(tmp_path: Path) -> None:
    brain = blob() > 0
    standardised = np.where(brain, (blob() - blob()[brain].mean()) / blob()[brain].std(), 0)
    found = slices(save(tmp_path / "z.nii", standardised))
    assert (found[:, 0] == 0).all()
    assert found[4, 30, 20] > 128 > found[4, 10, 20]
    hounsfield = slices(save(tmp_path / "ct.nii", np.where(brain, blob() - 500, -1024)))
    assert (hounsfield[:, 0] == 0).all()
    assert hounsfield[4, 30, 20] > hounsfield[4, 10, 20]


def write_analyze(path: Path, data: np.ndarray, order: str) -> Path:
    header = bytearray(348)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, 4, *data.shape, 1, 0, 0, 0)
    struct.pack_into(f"{order}hh", header, 70, 4, 16)
    struct.pack_into(f"{order}8f", header, 76, 0, 1, 1, 1, 0, 0, 0, 0)
    path.write_bytes(header)
    path.with_suffix(".img").write_bytes(data.astype(f"{order}i2").tobytes(order="F"))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_analyze_is_read_in_either_byte_order(tmp_path: Path, order: str) -> None:
    found = slices(write_analyze(tmp_path / "a.hdr", blob().round(), order))
    assert np.array_equal(found, slices(save(tmp_path / "a.nii", blob().round())))


def test_damaged_volumes_are_named(tmp_path: Path) -> None:
    good = save(tmp_path / "good.nii.gz", blob()).read_bytes()
    plain = gzip.decompress(good)
    analyze = write_analyze(tmp_path / "pair.hdr", blob(), ">")
    bad = {
        "cut.nii.gz": good[: len(good) // 2],
        "text.nii": b"no volume at all" * 40,
        "empty.nii.gz": b"",
        "short.nii": plain[:-1000],
        "flat.nii": plain[:352] + bytes(len(plain) - 352),
        "huge.nii": plain[:42] + struct.pack("<3h", 32000, 32000, 32000) + plain[48:],
        "long.nii": plain[:108] + struct.pack("<f", 2e9) + plain[112:],
    }
    tracemalloc.start()
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            slices(tmp_path / name)
    analyze.with_suffix(".img").write_bytes(b"short")
    with pytest.raises(DataError, match=r"pair\.hdr: found 5 bytes in pair\.img"):
        slices(analyze)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**26, "headers are checked before memory is allocated"


def test_arrays_that_are_no_volume_are_refused(tmp_path: Path) -> None:
    for data in (np.ones((4, 4, 4, 3)), np.ones((8, 8)), np.ones((4, 4, 4), np.complex64)):
        with pytest.raises(DataError, match=r"bad\.nii"):
            slices(save(tmp_path / "bad.nii", data))
    assert slices(save(tmp_path / "four.nii", blob()[..., None])).shape == (8, 40, 40)
    assert slices(save(tmp_path / "few.nii", blob((30, 40, 5)))).shape == (5, 40, 40)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_an_oasis_disc_gives_the_published_slices() -> None:
    found = slice_volume(next((SHARED / "oasis_discs").rglob("*.hdr")), num_slices=32, image_size=256)
    folder = SHARED / "keras_png_slices_data" / "keras_png_slices_test"
    for number in (0, 15, 31):
        expected = np.asarray(Image.open(folder / f"case_040_slice_{number}.nii.png")).astype(int)
        assert np.abs(found[number] - expected).max() <= 1
