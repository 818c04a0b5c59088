"""NIfTI files: damage in compressed data, affines that cannot be used, and units of the voxel sizes."""

import gzip
import random
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.cmdline.roi import main as select_volumes

from vqdist.data.sources.nifti import choose_affine, read_nifti, to_millimetres
from vqdist.data.sources.volume_limits import VolumeError
from vqdist.data.sources.volumes import slice_volume
from vqdist.foundation.errors import DataError

SFORM = 280  # offset in the header


def noise(shape: tuple[int, ...] = (12, 14, 10)) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 900, shape).astype(np.int16)


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None, *, version: int = 1) -> Path:
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    nibabel.save(kind(data, np.eye(4) if affine is None else affine), path)
    return path


def rewrite(path: Path, change: Callable[[bytearray], None]) -> Path:
    """Change the bytes of an uncompressed file."""
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def test_a_bit_flip_that_only_the_checksum_shows_is_found(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", noise())
    good, rng, refused = path.read_bytes(), random.Random(0), 0
    while refused < 20:
        damaged = bytearray(good)
        damaged[rng.randrange(len(good) // 3, len(good) - 8)] ^= 1 << rng.randrange(8)
        try:
            gzip.decompress(bytes(damaged))
        except gzip.BadGzipFile:
            refused += 1
        except Exception:  # noqa: BLE001 (damage that is found while decompressing is not the subject of this test)
            continue
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.nii\.gz: found damaged gzip data \(CRC check failed.*`gzip -t`"):
            slice_volume(path, num_slices=2, image_size=8)


@pytest.mark.parametrize("lost_bytes", [1, 8, 200])
def test_a_file_that_lost_its_end_is_damaged(tmp_path: Path, lost_bytes: int) -> None:
    path = save(tmp_path / "a.nii.gz", noise())
    path.write_bytes(path.read_bytes()[:-lost_bytes])
    with pytest.raises(VolumeError, match="damaged gzip data"):
        read_nifti(path)


def test_bytes_after_the_compressed_data_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", noise())
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(100))
    assert np.array_equal(read_nifti(path)[0], noise())
    path.write_bytes(whole + b"more")
    with pytest.raises(VolumeError, match="other bytes after the gzip data"):
        read_nifti(path)


def test_compression_is_recognised_by_content(tmp_path: Path) -> None:
    """Also files of several gzip members, as bgzip writes them, and wrong extensions."""
    plain = save(tmp_path / "a.nii", noise()).read_bytes()
    (tmp_path / "members.nii.gz").write_bytes(gzip.compress(plain[:700]) + gzip.compress(plain[700:]))
    (tmp_path / "compressed.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "plain.nii.gz").write_bytes(plain)
    for name in ("members.nii.gz", "compressed.nii", "plain.nii.gz"):
        assert np.array_equal(read_nifti(tmp_path / name)[0], noise())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "i8", "f4", ">f8"])
def test_both_versions_and_all_number_types_are_read(tmp_path: Path, version: int, dtype: str) -> None:
    data = (noise() % 200).astype(dtype)
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    nibabel.save(kind(data, np.diag([-1, 2, 3, 1]), dtype=data.dtype), tmp_path / "a.nii.gz")
    values, sides, *_ = read_nifti(tmp_path / "a.nii.gz")
    assert np.array_equal(values, data[::-1])
    assert sides.tolist() == [1, 2, 3]


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_the_qform_replaces_an_unusable_sform(tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float) -> None:
    affine = np.diag([-2.0, 3, 1, 1])
    picture = nibabel.Nifti1Image(noise(), affine)
    picture.set_qform(affine, code=1)
    nibabel.save(picture, tmp_path / "a.nii")
    rewrite(tmp_path / "a.nii", lambda data: struct.pack_into("<12f", data, SFORM, *[value] * 12))
    values, sides, *_ = read_nifti(tmp_path / "a.nii")
    assert np.array_equal(values, noise()[::-1])
    assert sides.tolist() == [2, 3, 1]
    assert "a.nii: sform with" in (said := capsys.readouterr().err)
    assert "; the qform is used" in said


def test_without_any_usable_form_the_message_names_the_affine(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", noise())
    rewrite(path, lambda data: struct.pack_into("<hh12f", data, 252, 0, 1, *[0.0] * 6, *[0.0] * 6))
    rewrite(path, lambda data: struct.pack_into("<12f", data, SFORM, *[0.0] * 12))
    expected = r"no usable affine \(sform with an axis of length 0\); expected an sform or qform"
    with pytest.raises(DataError, match=expected):
        slice_volume(path, num_slices=2, image_size=8)
    rewrite(path, lambda data: struct.pack_into("<hh3f", data, 252, 1, 0, *[float("nan")] * 3))
    with pytest.raises(DataError, match=r"no usable affine \(qform with"):
        slice_volume(path, num_slices=2, image_size=8)


def test_the_origin_may_be_unknown(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", noise(), np.diag([-1.0, 1, 1, 1]))
    rewrite(path, lambda data: struct.pack_into("<f", data, SFORM + 12, float("nan")))
    assert np.array_equal(read_nifti(path)[0], noise()[::-1])


def test_a_header_without_forms_uses_the_voxel_sizes(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((4, 5, 6))
    header.set_zooms((1, 2, 3))
    assert np.array_equal(choose_affine(header, "a"), header.get_base_affine())
    header["qform_code"], header["sform_code"] = 1, 0
    assert np.array_equal(choose_affine(header, "a"), header.get_qform())


def test_voxel_sizes_are_converted_to_millimetres(tmp_path: Path) -> None:
    for name, factor in (("micron", 1000), ("mm", 1), ("meter", 1e-3), ("unknown", 1)):
        picture = nibabel.Nifti1Image(noise(), np.diag([2.0 * factor, 3 * factor, 4 * factor, 1]))
        picture.header.set_xyzt_units(name, "sec")
        nibabel.save(picture, tmp_path / f"{name}.nii.gz")
        assert read_nifti(tmp_path / f"{name}.nii.gz")[1] == pytest.approx([2, 3, 4]), name


def test_a_head_in_microns_gives_the_same_slices(tmp_path: Path) -> None:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in (88, 104, 88)), indexing="ij")
    head = np.where(x**2 + y**2 + z**2 < 0.7, 500 + 100 * x, 0).astype(np.int16)
    found = []
    for unit, factor in (("mm", 1.0), ("micron", 1000.0)):
        picture = nibabel.Nifti1Image(head, np.diag([2 * factor, 2 * factor, 2 * factor, 1]))
        picture.header.set_xyzt_units(unit)
        nibabel.save(picture, tmp_path / "a.nii")
        found.append(slice_volume(tmp_path / "a.nii", num_slices=2, image_size=32))
    assert np.array_equal(*found)


def test_a_unit_that_no_scanner_could_hold_is_not_believed() -> None:
    header = nibabel.Nifti1Header()
    header.set_xyzt_units("meter")
    assert to_millimetres(np.ones(3), (180, 200, 180), header).tolist() == [1, 1, 1]


def test_colours_and_series_say_what_to_do(tmp_path: Path) -> None:
    colour = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(DataError, match="one integer or real number per voxel"):
        slice_volume(tmp_path / "rgb.nii", num_slices=2, image_size=8)
    with pytest.raises(DataError, match=r"a 4-D series of 3 volumes .*; expected one 3-D volume: select one"):
        slice_volume(save(tmp_path / "series.nii.gz", noise((6, 6, 6, 3))), num_slices=2, image_size=8)
    select_volumes(["-t", "0:1", str(tmp_path / "series.nii.gz"), str(tmp_path / "first.nii.gz")])
    assert np.array_equal(read_nifti(tmp_path / "first.nii.gz")[0], noise((6, 6, 6, 3))[..., 0])
    assert read_nifti(save(tmp_path / "one.nii", noise((6, 7, 8, 1))))[0].shape == (6, 7, 8)
