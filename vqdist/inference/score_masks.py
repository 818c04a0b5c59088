"""The masks that scores are measured against, read and checked before the models are loaded where that is possible."""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vqdist.config.slice_options import ScoreOptions
from vqdist.foundation.errors import DataError, Problem, check_option
from vqdist.foundation.progress import count_noun, print_message
from vqdist.inference.mask_files import find_masks, list_mask_files, read_mask
from vqdist.inference.picture_frame import PictureFrame
from vqdist.inference.slice_source import SliceSource, is_volume, open_slices, shorten


@dataclass(frozen=True)
class Masks:
    """The masks of the scored slices.

    Attributes:
        paths: of each slice; None for a slice without a mask, which counts as healthy.
        kinds: kind of the lesion of each mask, by the name of its file.
    """

    paths: list[Path | None]
    kinds: dict[str, str]

    def read(self, index: int, shape: tuple[int, ...], image_size: int) -> Tensor:
        """Return the mask of a slice in the size of the model's images, (S, S) bool."""
        path = self.paths[index]
        if path is None:
            return torch.zeros(image_size, image_size, dtype=torch.bool)
        return PictureFrame(shape, image_size).mask_to_model(read_mask(path, shape))

    def kind(self, index: int) -> str | None:
        """Return the kind of the lesion of a slice, if a table names it."""
        path = self.paths[index]
        return None if path is None else self.kinds.get(path.name)


def read_masks_early(options: ScoreOptions) -> Masks | None:
    """Find and check the masks of pictures and of a dataset, which needs no model.

    Returns:
        None without --masks, or for a volume: the number of its slices is that of the model. Then only the folder of
        the masks is checked.
    Raises:
        UserError: every problem of the masks, or the slices cannot be opened.
    """
    if options.masks is None:
        return None
    if is_volume(options):
        folder = options.masks
        check_option("--masks", folder, lambda: list_mask_files(folder))
        return None
    return list_masks(options, open_slices(options, options.masks, channels=None))


def list_masks(options: ScoreOptions, source: SliceSource) -> Masks:
    """Find the mask of each slice, and check the size of each.

    Raises:
        DataError: no mask belongs to a slice, or masks are unreadable or of another size; every problem.
    """
    folder = options.masks
    assert folder is not None, "called with --masks"
    are_files = options.pictures is not None and source.volume is None
    names = [info.source if are_files else info.key for info in source.infos]
    paths = check_option("--masks", folder, lambda: find_masks(folder, names, within=options.pictures))
    problems: list[Problem] = []
    for index, path in enumerate(paths):
        try:
            if path is not None:
                read_mask(path, source.read(index).shape[1:])
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(shorten(problems))
    if missing := [name for name, path in zip(names, paths, strict=True) if path is None]:
        example = f"for example {missing[0]}"
        print_message(
            f"without a mask: {len(missing)} of {count_noun(len(names), 'slice')}, {example}; counted as healthy"
        )
    return Masks(paths, read_kinds(folder))


def read_kinds(folder: Path) -> dict[str, str]:
    """Return the kind of the lesion of each mask from the tables (CSV) of a folder with the columns mask and kind."""
    kinds: dict[str, str] = {}
    for table in sorted(folder.glob("*.csv")) if folder.is_dir() else []:
        with table.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                if row.get("mask") and row.get("kind"):
                    kinds[Path(row["mask"]).name] = row["kind"]
    return kinds
