"""From an opened source to a dataset of images."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.data.sources.layouts import DEMO, Source, SourceFile, SourceSlice, open_source
from vqdist.data.sources.splits import assign_splits
from vqdist.foundation.errors import DataError
from vqdist.foundation.printable_text import printable
from vqdist.foundation.progress import ProgressBar, count_noun, print_message

DEMO_IMAGE_SIZE = 128
DEMO_SHARES = (0.8, 0.1, 0.1)
SUBJECTS = "subjects.csv"  # beside the shards of synthetic brains


def make_demo(out: Path) -> Manifest:
    """Write the dataset of a run without data.path: 24 synthetic brains of 32 slices."""
    source = open_source(DEMO, image_size=DEMO_IMAGE_SIZE)
    shares = dict(zip(("train", "validate", "test"), DEMO_SHARES, strict=True))
    splits = assign_splits([(file.subject, file.split) for file in source.files], shares, fill=False, seed=0)
    return write_source(source, splits, out, origin=DEMO, shares=DEMO_SHARES, seed=0, image_size=DEMO_IMAGE_SIZE)[0]


def write_source(
    source: Source,
    splits: Mapping[str, str],
    out: Path,
    *,
    origin: str,
    shares: Sequence[float],
    seed: int,
    image_size: int,
    num_slices: int = 32,
    samples_per_shard: int = 256,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    selection: Mapping[str, object] | None = None,
) -> tuple[Manifest, list[str]]:
    """Write every slice of a source as a dataset of images; the dataset is written atomically.

    Args:
        splits: subject -> split.
        out: folder of the dataset.
        origin, shares, seed: name of the source and settings of the split, for the manifest.
        image_size: rows and columns of a slice, in pixels.
        num_slices: slices expected per volume; a volume with fewer is reported.
        skip_unreadable: skip files that cannot be read, instead of raising.
        selection: settings of the files and subjects, for the manifest.
    Returns:
        The manifest, and the files that were skipped.
    Raises:
        DataError: a file cannot be read, or a split has no readable file.
        OSError: the dataset cannot be written.
    """
    skipped: list[str] = []

    def read(file: SourceFile) -> list[SourceSlice]:
        try:
            slices = source.read(file)
        except DataError as error:
            if not skip_unreadable:
                raise
            skipped.append(printable(file.source))
            print_message(f"skipped {error}")
            return []
        if source.by_volume and len(slices) < num_slices:
            found = count_noun(len(slices), "axial slice")
            print_message(f"{file.source}: {found}, not {num_slices}; all are used")
        return slices

    writer = ShardSetWriter(
        out,
        kind="images",
        image_size=(image_size, image_size),
        channels=source.channels,
        samples_per_shard=samples_per_shard,
        overwrite=overwrite,
        source={
            "path": printable(origin),
            "layout": source.layout,
            "split": list(shares),
            "seed": seed,
            "skipped": skipped,
            **(selection or {}),
        },
        class_names=source.class_names,
        attribute_kinds=source.attribute_kinds,
    )
    with writer, ProgressBar(len(source.files), unit="files", label="shard") as progress:
        written: set[str] = set()
        for file in source.files:
            split = splits[file.subject]
            for piece in read(file):
                info: dict[str, Any] = {
                    "subject": file.subject,
                    "slice": piece.slice,
                    "label": file.label,
                    "source": printable(file.source),
                }
                if source.attribute_kinds:
                    info["attributes"] = dict(file.attributes)
                writer.write_image(split, piece.key, piece.image, info)
                written.add(split)
            progress.advance()
        if source.layout == DEMO:
            write_subjects(source, writer.folder / SUBJECTS)
        for split in sorted(set(splits.values()) - written):
            raise DataError.of(f"split {split}", "no readable file", "at least one")
    if skipped:
        print_message(f"skipped {len(skipped)} of {len(source.files)} files")
    return load_manifest(out), skipped


def write_subjects(source: Source, path: Path) -> None:
    """Write the attributes of each subject as a table, as `vqdist shard --table` reads one."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["subject", *source.attribute_kinds])
        for subject, attributes in {file.subject: file.attributes for file in source.files}.items():
            rows.writerow([subject, *(attributes.get(name, "") for name in source.attribute_kinds)])
