"""Recognition of files that vqdist does not read, with the command that converts each."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from vqdist.foundation.errors import DataError
from vqdist.foundation.printable_text import printable
from vqdist.foundation.progress import count_noun

_NIFTI = "NIfTI volumes (.nii, .nii.gz)"
_BY_CONVERT = "{nifti}: convert each volume with its subject in the name, for example `nib-convert {path} {out}.nii.gz`"
_BY_SITK = (
    "{nifti}: convert each volume with its subject in the name, for example in Python "
    "`SimpleITK.WriteImage(SimpleITK.ReadImage({python_path}), {python_out})`"
)
# Of pictures and volumes in one folder, the pictures are usually previews of the volumes.
_PREVIEWS_PER_VOLUME = 6
_HEADER_BYTES = 348
_ANALYZE_STARTS = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")  # this length in either byte order
_MAX_OPENED_FILES = 1000  # to find DICOM files without an extension


@dataclass(frozen=True)
class _Format:
    """A format that is not read.

    Attributes:
        noun: what the files are, before their number.
        advice: what to do; a format string; see `_describe` for its fields.
        is_volume: whether pictures beside these files are probably previews of them.
        example: end of the path to name, if there is one.
    """

    noun: str
    advice: str
    is_volume: bool = True
    example: str = ""


_DICOM = _Format(
    "DICOM files", "{nifti}: convert the series, for example with `mkdir OUT && dcm2niix -z y -f %i_%s -o OUT {root}`"
)
_OASIS2 = _Format("OASIS-2 volumes in NIfTI pairs of .hdr and .img", _BY_CONVERT)
_PAIRS = _Format("NIfTI pairs of .hdr and .img", _BY_CONVERT)
_OASIS1_OTHERS = _Format(
    "OASIS-1 volumes without orientation, other than those that vqdist reads",
    "the volumes PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc.{{hdr,img}} of the same discs, or {nifti}, converted with "
    "the orientation that the OASIS-1 documentation gives",
)
_ANALYZE = _Format(
    "Analyze 7.5 volumes, which have no orientation",
    _BY_CONVERT + "; compare left and right with the original",
)
_BY_EXTENSION = {
    **dict.fromkeys((".dcm", ".dicom", ".ima"), _DICOM),
    **dict.fromkeys(
        (".mgz", ".mgh"),
        _Format("FreeSurfer volumes", _BY_CONVERT + "; take one volume per scan", example="brain.mgz"),
    ),
    **dict.fromkeys((".nrrd", ".nhdr"), _Format("NRRD volumes", _BY_SITK)),
    **dict.fromkeys((".mha", ".mhd"), _Format("MetaImage volumes", _BY_SITK)),
    ".hdr.gz": _PAIRS,
    ".mnc": _Format("MINC volumes", _BY_CONVERT),
    ".head": _Format("AFNI volumes", _BY_CONVERT),
    ".par": _Format("Philips PAR/REC volumes", "{nifti}: convert each volume, for example `parrec2nii {path}`"),
    **dict.fromkeys(
        (".nii.bz2", ".nii.xz", ".nii.zst", ".nii.zip"),
        _Format("compressed NIfTI volumes", "{nifti}: decompress the files, or compress them with gzip"),
    ),
    **dict.fromkeys(
        (".npy", ".npz", ".mat", ".h5", ".hdf5"),
        _Format(
            "files of arrays",
            "picture files, or {nifti}: write each array, for example in Python "
            "`nibabel.save(nibabel.Nifti1Image(array, affine), 'SUBJECT.nii.gz')`",
            is_volume=False,
        ),
    ),
    **dict.fromkeys(
        (".heic", ".heif"),
        _Format("HEIC pictures", "PNG or JPEG: convert the files, for example `magick {path} {out}.png`", False),
    ),
    **dict.fromkeys(
        (".mp4", ".avi", ".mov"),
        _Format("videos", "pictures: extract them, for example `ffmpeg -i {path} {out}-%05d.png`", False),
    ),
    ".tar": _Format(
        "tar files",
        "pictures or volumes: --layout webdataset reads WebDataset shards; extract other archives",
        False,
    ),
    **dict.fromkeys(
        (".zip", ".tar.gz", ".tgz", ".7z", ".rar"), _Format("archives", "pictures or volumes: extract them", False)
    ),
}
_COMPRESSED = re.compile(r"(\.nii|\.tar|\.hdr)(\.[a-z0-9]+)$")
_OASIS = re.compile(r"OAS([12])_\d{4}", re.IGNORECASE)


def check_formats(names: Sequence[str], root: Path, *, is_picture: Callable[[str], bool] | None = None) -> None:
    """Refuse a folder of files in a known format that vqdist does not read.

    Args:
        names: paths inside the folder, with slashes.
        root: the folder.
        is_picture: recognises the pictures that would be read instead. Files of arrays, videos and archives beside
            pictures are no reason to refuse them; volumes with a few pictures each are.
    Raises:
        DataError: names the format of most of these files, and how to convert them.
    """
    pictures = sum(map(is_picture, names)) if is_picture else 0
    found: dict[_Format, list[str]] = {}
    opened = 0
    for name in names:
        opens = opened < _MAX_OPENED_FILES and not (is_picture and is_picture(name))
        opened += opens and _extension(name) not in _BY_EXTENSION
        kind = _recognise(root / name, opens=opens)
        if kind is not None and (not pictures or kind.is_volume):
            found.setdefault(kind, []).append(name)
    if not found:
        return
    kind, examples = max(found.items(), key=lambda item: len(item[1]))
    if pictures <= _PREVIEWS_PER_VOLUME * len(examples):
        raise DataError.of(str(root), *_describe(kind, examples, root, pictures))


def explain_file(path: Path, expected: str, *, is_read: bool) -> DataError:
    """Return the error for a single file as the source: how to convert it, or how to take it from its folder.

    Args:
        expected: the files that a folder may have.
        is_read: whether files with this name are read from a folder.
    """
    named = path if is_read else _find_header(path)
    try:
        check_formats([named.name], named.parent)
    except DataError as error:
        return DataError([replace(problem, where=str(path)) for problem in error.problems])
    if not is_read:
        return DataError.of(str(path), "a file", f"a folder: {expected}")
    folder, include = printable(str(path.parent)), f"`--include {shlex.quote(printable(path.name))}`"
    advice = f"its folder, {folder}; {include} takes this file only, and `--split 1 0 0` makes it training data"
    return DataError.of(str(path), "a single file", advice)


def name_volumes(path: Path) -> str | None:
    """Return what volumes in the format of a file are called, whether they are read or not; None for other files."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return "NIfTI volumes"
    kind = _recognise(_find_header(path), opens=True)
    return kind.noun if kind is not None and kind.is_volume else None


def _find_header(path: Path) -> Path:
    """Return the .hdr beside a .img, which alone says nothing of its format; any other path as it is."""
    header = path.with_suffix(".HDR" if path.suffix == ".IMG" else ".hdr")
    return header if path.suffix.lower() == ".img" and header.is_file() else path


def _recognise(path: Path, *, opens: bool) -> _Format | None:
    """Return the format of a file by its extension, or else by its content if that may be read."""
    extension = _extension(path.name)
    kind = _BY_EXTENSION.get(extension)
    if kind is None and extension == ".hdr":
        return _recognise_pair(path)
    return _DICOM if kind is None and opens and _is_dicom(path) else kind


def _describe(kind: _Format, names: Sequence[str], root: Path, pictures: int) -> tuple[str, str]:
    example = PurePosixPath(next((name for name in names if name.endswith(kind.example)), names[0]))
    out = "_".join(example.parts).removesuffix(_suffix(example.name)).removesuffix(".nifti")
    path = root / example
    text = kind.advice.format(
        nifti=_NIFTI,
        path=shlex.quote(printable(str(path))),
        out=shlex.quote(printable(out)),  # the name with its folders
        root=shlex.quote(printable(str(root))),
        python_path=repr(printable(str(path))),
        python_out=repr(f"{printable(out)}.nii.gz"),
    )
    beside = f" beside {count_noun(pictures, 'picture')}" if pictures else ""
    or_pictures = "; or --layout imagefolder for the pictures" if pictures else ""
    at_least = "at least " if len(names) >= _MAX_OPENED_FILES else ""
    return f"{kind.noun} ({at_least}{len(names):,}){beside}, such as {printable(str(example))}", text + or_pictures


def _suffix(name: str) -> str:
    match = _COMPRESSED.search(name.lower())
    return name[match.start() :] if match else PurePosixPath(name).suffix


def _extension(name: str) -> str:
    return _suffix(PurePosixPath(name).name).lower()


def _recognise_pair(path: Path) -> _Format | None:
    """Return the format of a .hdr by its path and content; None for another one, for example a Radiance picture."""
    oasis = _OASIS.findall(str(path))[-1:]
    if oasis == ["2"]:
        return _OASIS2
    header = _read_start(path, _HEADER_BYTES)
    if header[344:348] == b"ni1\0":
        return _PAIRS
    if oasis == ["1"]:
        return _OASIS1_OTHERS
    return _ANALYZE if len(header) == _HEADER_BYTES and header[:4] in _ANALYZE_STARTS else None


def _is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, which often has no extension."""
    return path.name.upper() == "DICOMDIR" or _read_start(path, 132)[128:] == b"DICM"


def _read_start(path: Path, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(size)
    except OSError:
        return b""
