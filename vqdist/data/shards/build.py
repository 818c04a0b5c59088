"""From an opened source to a data set: every slice written, or an error, or a file skipped and counted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqdist.data.shards.writer import Manifest, ShardSetWriter, load_manifest
from vqdist.data.sources.layouts import DEMO, Source, open_source
from vqdist.data.sources.splits import assign_splits
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import ProgressBar, count_noun, print_message

DEMO_IMAGE_SIZE = 128
DEMO_SHARES = (0.8, 0.1, 0.1)


def make_demo(out: Path) -> Manifest:
    """Write the data set that training makes for itself where none is named: 24 made-up brains of 32 slices."""
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
) -> tuple[Manifest, list[str]]:
    """Write a source as a data set of images, whole or not at all.

    Args:
        source: what to read.
        splits: subject -> split.
        out: folder of the data set.
        origin, shares, seed: how the source was named and split; told in the manifest.
        image_size: rows and columns of a slice, in pixels.
        num_slices: slices expected of a volume; one with fewer is said.
        skip_unreadable: skip a file that cannot be read, instead of raising.
    Returns:
        The manifest, and the files that were skipped.
    Raises:
        DataError: a file that cannot be read, or a split left without any.
        OSError: the data set could not be written.
    """
    skipped: list[str] = []
    facts: dict[str, Any] = {
        "path": origin,
        "layout": source.layout,
        "split": list(shares),
        "seed": seed,
        "skipped": skipped,
    }
    writer = ShardSetWriter(
        out,
        kind="images",
        image_size=(image_size, image_size),
        channels=source.channels,
        samples_per_shard=samples_per_shard,
        overwrite=overwrite,
        source=facts,
        class_names=source.class_names,
    )
    with writer, ProgressBar(len(source.files), unit="files", label="shard") as progress:
        written: set[str] = set()
        for file in source.files:
            try:
                slices = source.read(file)
            except DataError as error:
                if not skip_unreadable:
                    raise
                skipped.append(file.source)
                print_message(f"skipped {error}")
                slices = []
            if slices and source.by_volume and len(slices) < num_slices:
                print_message(
                    f"{file.source}: {count_noun(len(slices), 'axial slice')}, not {num_slices}; all are taken"
                )
            for piece in slices:
                info = {"subject": file.subject, "slice": piece.slice, "label": file.label, "source": file.source}
                writer.write_image(splits[file.subject], piece.key, piece.image, info)
                written.add(splits[file.subject])
            progress.advance()
        for split in sorted(set(splits.values()) - written):
            raise DataError.of(f"split {split}", "no file that could be read", "at least one")
    if skipped:
        print_message(f"skipped {len(skipped)} of {len(source.files)} files")
    return load_manifest(out), skipped
