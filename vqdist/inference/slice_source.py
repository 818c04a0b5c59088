"""The slices that `vqdist complete` and `vqdist score` work on: pictures of a folder, or a split of a dataset."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from vqdist.config.attributes import Attributes, AttributeValue
from vqdist.config.slice_options import SliceOptions
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.open_dataset import open_dataset
from vqdist.data.sources.file_names import build_keys, parse_slice_number, parse_subject, stem
from vqdist.data.sources.pictures import read_pixels
from vqdist.foundation.errors import ConfigError, DataError, Problem, UserError
from vqdist.inference.compatibility import find_kind_problems
from vqdist.inference.conditions import NUMBERS, Value, to_conditions
from vqdist.inference.mask_files import is_mask_name
from vqdist.inference.reconstruction import find_pictures
from vqdist.inference.split_loader import SplitLoader
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.map_conditions import UNKNOWN_NUMBER, MapConditions
from vqdist.models.pixelcnn import PixelCNN

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
    """

    key: str
    source: str
    subject: str
    label: int | None = None
    slice: int | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceSource:
    """Slices with their pixels.

    Attributes:
        infos: of each slice.
        read: number of a slice -> (C, H, W) uint8 in the size of the picture.
    """

    infos: tuple[SliceInfo, ...]
    read: Callable[[int], Pixels]

    def __len__(self) -> int:
        return len(self.infos)


def list_pictures(folder: Path, *, without: Collection[Path] = ()) -> list[Path]:
    """Return the pictures of a folder and its subfolders, or a single one; some can be left out.

    Raises:
        DataError: no pictures.
    """
    left_out = {path.resolve() for path in without}
    return [path for path in find_pictures(folder) if path.resolve() not in left_out]


def open_pictures(folder: Path, paths: Sequence[Path], *, channels: int) -> SliceSource:
    """Return the pictures as slices. Subject and slice number are read from the names: case_012_slice_3.png.

    Args:
        folder: the keys are the paths inside it.
        channels: of the model, 1 or 3.
    Raises:
        DataError: pictures that cannot be read.
    """
    names = [path.relative_to(folder) if path != folder else Path(path.name) for path in paths]
    keys = build_keys(str(name.parent / stem(PurePosixPath(name.name))) for name in names)
    infos = tuple(
        SliceInfo(key, str(path), parse_subject(str(name)) or key, slice=parse_slice_number(name.name))
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


def open_split(path: Path, split: str, *, channels: int) -> SliceSource:
    """Return the slices of a split of a dataset of images.

    Raises:
        UserError: no dataset of images with these channels, or no samples in the split.
    """
    dataset = open_dataset(path)
    if problems := find_kind_problems(dataset, "images", "this command"):
        raise UserError(problems)
    if dataset.manifest.channels != channels:
        found, expected = dataset.manifest.channels, f"{channels}, the channels of the VQ-VAE"
        raise UserError.of(f"{path}: channels", found, expected)
    loader = SplitLoader(dataset, split, batch_size=READ_TOGETHER)
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


def open_slices(
    options: SliceOptions, masks: Path | None, *, channels: int, without: Collection[Path] = ()
) -> SliceSource:
    """Return the slices of --data or --pictures; masks in the folder of the pictures are not among them.

    Args:
        masks: folder of the masks, or the one mask; None without.
        without: pictures to leave out.
    """
    if options.pictures is None:
        assert options.data is not None, "a conflict of the options"
        return open_split(options.data, options.split, channels=channels)
    paths = list_pictures(options.pictures, without=without)
    if masks is not None and options.pictures.resolve() == masks.resolve():
        paths = [path for path in paths if not is_mask_name(path.name)]
    return open_pictures(options.pictures, paths, channels=channels)


def choose_conditions(prior: PixelCNN, infos: Sequence[SliceInfo], given: Mapping[str, Value]) -> MapConditions:
    """Return the conditions of each slice that the prior is conditioned on: the given ones, or those of the slices.

    Args:
        given: values for all slices, by name, encoded.
    Raises:
        ConfigError: a condition is unknown or out of range; every problem.
    """
    problems: list[Problem] = []
    columns: dict[str, Sequence[Value]] = {}
    for name in prior.spec.names:
        if name in given:
            columns[name] = [given[name]] * len(infos)
        elif name in NUMBERS:
            columns[name], found = _list_numbers(prior.spec, name, infos)
            problems += found
        else:
            columns[name], found = _list_attributes(prior.spec, name, infos)
            problems += found
    if problems:
        raise ConfigError(problems)
    return to_conditions(columns)


def _list_numbers(spec: ConditionSpec, name: str, infos: Sequence[SliceInfo]) -> tuple[list[Value], list[Problem]]:
    """Return label or slice number of each slice, and what is wrong with them."""
    limit = spec.num_labels if name == "label" else spec.num_slices
    values: list[int | None] = [info.label if name == "label" else info.slice for info in infos]
    pairs = list(zip(infos, values, strict=True))
    word, advice = name, f"give --condition {name}=NUMBER for all slices"
    if name == "slice":
        word, advice = "slice number", f"name the pictures as in case_012_slice_3.png, or {advice}"
    missing = [] if spec.hides else [info.source for info, value in pairs if value is None]
    outside = [f"{info.source} ({value})" for info, value in pairs if value is not None and value >= limit]
    expected = f"numbers in [0, {limit}), as in the training data; {advice}"
    problems = _describe(missing, f"no {word}", f"one; {advice}")
    problems += _describe(outside, f"a {word} out of range", expected)
    return [UNKNOWN_NUMBER if value is None else value for value in values], problems


def _list_attributes(spec: ConditionSpec, name: str, infos: Sequence[SliceInfo]) -> tuple[list[Value], list[Problem]]:
    """Return an attribute of each slice; a number outside of the training data becomes the nearest one inside."""
    attribute = spec.attributes[name]
    values = [attribute.encode(info.attributes.get(name)) for info in infos]
    missing = [info.source for info, value in zip(infos, values, strict=True) if math.isnan(value)]
    if attribute.kind == "number":
        values = [min(max(value, attribute.low), attribute.high) for value in values]
    if not missing or spec.takes_unknown(name):
        return list(values), []
    return list(values), _describe(missing, f"no {name}", f"one; give --condition {name}=VALUE for all slices")


def _describe(names: Sequence[str], found: str, expected: str) -> list[Problem]:
    if not names:
        return []
    where = names[0] if len(names) == 1 else f"{len(names)} slices, for example {name_examples(names)}"
    return [Problem(where, found, expected)]


def name_examples(names: Sequence[str]) -> str:
    """Return the first names as text, at most EXAMPLES."""
    return ", ".join(names[:EXAMPLES])


def shorten(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problems, at most EXAMPLES, and one that counts the others."""
    rest = len(problems) - EXAMPLES
    more = [Problem("more files", f"{rest} with similar problems", "none")] if rest > 0 else []
    return [*problems[:EXAMPLES], *more]
