"""From an opened source to a dataset of images."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from vqdist.data.shards.encode_files import EncodedFile, encode_files
from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.data.sources.demo_source import DEMO
from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.source import Source, SourceFile
from vqdist.data.sources.splits import assign_splits
from vqdist.foundation.errors import MAX_EXAMPLES, DataError
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
    workers: int = 1,
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
        workers: processes that read and encode; the dataset does not depend on their number.
    Returns:
        The manifest, and the files that were skipped.
    Raises:
        DataError: a file cannot be read, or a split has no readable file.
        OSError: the dataset cannot be written.
        StalledError: a worker died.
    """
    skipped: list[str] = []
    report_message = LimitedMessages("further pictures whose EXIF data cannot be read are not listed")

    def report(file: SourceFile, encoded: EncodedFile) -> None:
        for message in encoded.messages:
            report_message(message)
        if encoded.error is not None:
            if not skip_unreadable:
                raise encoded.error
            skipped.append(printable(file.source))
            print_message(f"skipped {encoded.error}")
        elif source.by_volume and len(encoded.slices) < num_slices:
            found = count_noun(len(encoded.slices), "axial slice")
            print_message(f"{file.source}: {found}, not {num_slices}; all are used")

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
    slices_per_file = num_slices if source.by_volume or source.layout == DEMO else 1
    encoding = encode_files(source.read, source.files, slices_per_file=slices_per_file, workers=workers)
    with (
        writer,
        ProgressBar(len(source.files), unit="files", label="shard") as progress,
        closing(encoding) as encoded_files,  # after an error no worker goes on
    ):
        written: set[str] = set()
        for file, encoded in zip(source.files, encoded_files, strict=True):
            split = splits[file.subject]
            report(file, encoded)
            for piece in encoded.slices:
                info: dict[str, Any] = {
                    "subject": file.subject,
                    "slice": piece.slice,
                    "label": file.label,
                    "source": printable(file.source),
                }
                if source.attribute_kinds:
                    info["attributes"] = dict(file.attributes)
                writer.write_encoded(split, piece.key, piece.png, piece.pixel_counts, info)
                writer.affine = writer.affine or piece.affine
                written.add(split)
            progress.advance()
        if source.layout == DEMO:
            write_subjects(source, writer.folder / SUBJECTS)
        for split in sorted(set(splits.values()) - written):
            raise DataError.of(f"split {split}", "no readable file", "at least one")
    if skipped:
        print_message(f"skipped {len(skipped)} of {count_noun(len(source.files), 'file')}")
    return load_manifest(out), skipped


class LimitedMessages:
    """Prints the first messages; a fault of the program that wrote the pictures is in all of them.

    Args:
        rest: the message that replaces further ones.
    """

    def __init__(self, rest: str) -> None:
        self._rest = rest
        self._count = 0

    def __call__(self, message: str) -> None:
        """Print a message, unless enough have been printed."""
        self._count += 1
        if self._count <= MAX_EXAMPLES:
            print_message(message)
        if self._count == MAX_EXAMPLES:
            print_message(self._rest)


def write_subjects(source: Source, path: Path) -> None:
    """Write the attributes of each subject as a table, as `vqdist shard --table` reads one."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["subject", *source.attribute_kinds])
        for subject, attributes in {file.subject: file.attributes for file in source.files}.items():
            rows.writerow([subject, *(attributes.get(name, "") for name in source.attribute_kinds)])
