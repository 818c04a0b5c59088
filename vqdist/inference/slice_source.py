"""The slices that `vqdist complete` and `vqdist score` work on: pictures, a volume, or a split of a dataset."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqdist.config.attributes import Attributes, AttributeValue
from vqdist.config.slice_options import SliceOptions
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.open_dataset import open_dataset
from vqdist.data.order import Indexes
from vqdist.data.previous_slices import SliceName, find_previous
from vqdist.data.sources.file_names import build_keys, parse_slice_number, parse_subject, stem
from vqdist.data.sources.nifti_files import is_nifti
from vqdist.data.sources.pictures import read_pixels
from vqdist.data.sources.result_folders import read_attributes, read_entries, read_number
from vqdist.data.sources.volumes import SlicedVolume, VoxelSlice, open_volume
from vqdist.foundation.errors import DataError, Problem, UserError, check_option
from vqdist.inference.compatibility import find_kind_problems
from vqdist.inference.mask_files import is_mask_name
from vqdist.inference.reconstruction import find_pictures
from vqdist.inference.split_loader import SplitLoader

EXAMPLES = 5  # names that a message lists
READ_TOGETHER = 64

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SliceInfo:
    """What is known of a slice besides its pixels.

    Attributes:
        key: its name in the results.
        source: the path of the picture, or the key of the sample; names the slice in messages.
        subject: the key if the subject is unknown.
        label, slice: None if unknown.
        attributes: those that are known, such as the age of the subject.
        voxels: the slice of the file of a volume that is nearest; None for a picture or a sample.
    """

    key: str
    source: str
    subject: str
    label: int | None = None
    slice: int | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    voxels: VoxelSlice | None = None


@dataclass(frozen=True)
class VolumeSlices:
    """The volume that slices are cut from.

    Attributes:
        path: of the NIfTI file.
        planes: the planes of the slices.
    """

    path: Path
    sliced: SlicedVolume
    planes: range


class VolumeSizes(NamedTuple):
    """Size and number of the slices of a volume, as in the training data."""

    image_size: int
    num_slices: int


@dataclass(frozen=True)
class SliceSource:
    """Slices with their pixels.

    Attributes:
        infos: of each slice.
        read: number of a slice -> (C, H, W) uint8 in the size of the picture.
        volume: the volume that the slices are cut from; None for pictures and datasets.
    """

    infos: tuple[SliceInfo, ...]
    read: Callable[[int], Pixels]
    volume: VolumeSlices | None = None

    @cached_property
    def previous(self) -> Indexes:
        """The number of the previous slice of each slice; NO_PREVIOUS where it is not among them."""
        return find_previous([SliceName(info.key, info.subject, info.slice) for info in self.infos])

    def __len__(self) -> int:
        return len(self.infos)


def list_pictures(folder: Path, *, without: Collection[Path] = (), dataset_option: str = "--data DATA") -> list[Path]:
    """Return the pictures of a folder and its subfolders, or a single one; some can be left out.

    Args:
        dataset_option: as in `find_pictures`.
    Raises:
        DataError: no pictures.
    """
    left_out = {path.resolve() for path in without}
    return [path for path in find_pictures(folder, dataset_option=dataset_option) if path.resolve() not in left_out]


def open_pictures(folder: Path, paths: Sequence[Path], *, channels: int) -> SliceSource:
    """Return the pictures as slices.

    Subject and slice number are read from the names: case_012_slice_3.png. Those that vqdist sample or complete has
    written have the label, the slice number and the attributes that they were made for.

    Args:
        folder: the keys are the paths inside it.
        channels: of the model, 1 or 3.
    Raises:
        DataError: pictures that cannot be read.
    """
    names = [path.relative_to(folder) if path != folder else Path(path.name) for path in paths]
    keys = build_keys(str(name.parent / stem(PurePosixPath(name.name))) for name in names)
    entries = {parent: read_entries(parent) for parent in dict.fromkeys(path.parent for path in paths)}
    infos = tuple(
        _describe_picture(key, path, name, entries[path.parent].get(path.name, {}))
        for key, path, name in zip(keys, paths, names, strict=True)
    )

    def read(number: int) -> Pixels:
        pixels = read_pixels(paths[number], channels=channels)
        return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    problems: list[Problem] = []
    for number in range(len(paths)):
        try:
            read(number)
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(shorten(problems))
    return SliceSource(infos, read)


def _describe_picture(key: str, path: Path, name: Path, entry: Mapping[str, Any]) -> SliceInfo:
    """Return what its name, and its entry in samples.json or completions.json, say of a picture."""
    number = read_number(entry, "slice")
    return SliceInfo(
        key,
        str(path),
        parse_subject(str(name)) or key,
        label=read_number(entry, "label"),
        slice=parse_slice_number(name.name) if number is None else number,
        attributes=read_attributes(entry),
    )


def open_volume_slices(path: Path, sizes: VolumeSizes, *, channels: int) -> SliceSource:
    """Return the middle slices of a volume, cut and numbered as `vqdist shard` does.

    Raises:
        DataError: the volume cannot be read.
    """
    sliced = open_volume(path, image_size=sizes.image_size)
    planes = sliced.choose_planes(sizes.num_slices)
    name = build_keys([stem(PurePosixPath(path.name.removesuffix(".gz")))])[0]
    subject = parse_subject(path.name) or name
    infos = tuple(
        SliceInfo(
            f"{name}_slice_{number:03d}",
            f"{path}, slice {number}",
            subject,
            slice=number,
            voxels=sliced.find_voxels(plane),
        )
        for number, plane in enumerate(planes)
    )

    def read(number: int) -> Pixels:
        return sliced.slices(planes[number : number + 1]).repeat(channels, axis=0)

    return SliceSource(infos, read, VolumeSlices(path, sliced, planes))


def open_split(path: Path, split: str, *, channels: int | None, flag: str | None = None) -> SliceSource:
    """Return the slices of a split of a dataset of images.

    Args:
        channels: of the model; None: any.
        flag: the option that chooses the split, for the error.
    Raises:
        UserError: no dataset of images with these channels, or no samples in the split.
    """
    dataset = open_dataset(path)
    if problems := find_kind_problems(dataset, "images", "this command"):
        raise UserError(problems)
    if channels is not None and dataset.manifest.channels != channels:
        found, expected = dataset.manifest.channels, f"{channels}, the channels of the VQ-VAE"
        raise UserError.of(f"{path}: channels", found, expected)
    loader = SplitLoader(dataset, split, batch_size=READ_TOGETHER, flag=flag)
    subjects, infos = loader.subjects(), []
    for batch in loader.load_all():
        numbers = zip(batch.positions.tolist(), batch.keys, batch.label.tolist(), batch.slice.tolist(), strict=True)
        infos += [
            SliceInfo(
                key,
                f"{path}, {split}, {key}",
                subjects[number],
                label=_known(label),
                slice=_known(slice_number),
                attributes=_list_known(batch, row, dataset.manifest.attributes),
            )
            for row, (number, key, label, slice_number) in enumerate(numbers)
        ]

    def read(number: int) -> Pixels:
        return loader.load(np.array([number], np.int64)).values[0].numpy()

    return SliceSource(tuple(infos), read)


def _list_known(batch: Batch, row: int, attributes: Attributes) -> dict[str, AttributeValue]:
    found = {
        name: attribute.decode(float(batch.conditions.attributes[name][row])) for name, attribute in attributes.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _known(value: int) -> int | None:
    return None if value == NO_NUMBER else value


def is_volume(options: SliceOptions) -> bool:
    """Whether --pictures is a NIfTI volume."""
    return options.pictures is not None and is_nifti(options.pictures.name) and options.pictures.is_file()


def open_slices(
    options: SliceOptions,
    masks: Path | None,
    *,
    channels: int | None,
    sizes: VolumeSizes | None = None,
    without: Collection[Path] = (),
) -> SliceSource:
    """Return the slices of --data or --pictures; masks in the folder of the pictures are not among them.

    Args:
        masks: folder of the masks, or the one mask; None without.
        channels: of the model; None where it is not known yet: a dataset may have any, and pictures are read as grey.
        sizes: of the slices of a volume; None: a volume is refused.
        without: pictures to leave out.
    """
    if options.pictures is None:
        assert options.data is not None, "a conflict of the options"
        data, split = options.data, options.split
        return check_option("--data", data, lambda: open_split(data, split, channels=channels, flag="--split"))
    pictures, channels = options.pictures, channels or 1

    def open_source() -> SliceSource:
        if sizes is not None and is_volume(options):
            return open_volume_slices(pictures, sizes, channels=channels)
        paths = list_pictures(pictures, without=without)
        if masks is not None and pictures.resolve() == masks.resolve():
            paths = [path for path in paths if not is_mask_name(path.name)]
        return open_pictures(pictures, paths, channels=channels)

    return check_option("--pictures", pictures, open_source)


def name_examples(names: Sequence[str]) -> str:
    """Return the first names as text, at most EXAMPLES."""
    return ", ".join(names[:EXAMPLES])


def shorten(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problems, at most EXAMPLES, and one that counts the others; equal ones are one with a count."""
    counts = Counter(problems)
    problems = [
        problem if count == 1 else replace(problem, found=f"{problem.found}, for {count:,} slices")
        for problem, count in counts.items()
    ]
    rest = len(problems) - EXAMPLES
    more = [Problem("more files", f"{rest} with similar problems", "none")] if rest > 0 else []
    return [*problems[:EXAMPLES], *more]
