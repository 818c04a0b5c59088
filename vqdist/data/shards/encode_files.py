"""Reading of source files and encoding of their slices to PNG, in this process or in several."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

from vqdist.data.shards.codecs import encode_png
from vqdist.data.shards.writer import PixelCounts, count_pixels
from vqdist.data.sources.source import Reader, SourceFile
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import AffineRows
from vqdist.foundation.process_pool import map_in_order

MIN_SLICES_PER_WORKER = 64  # fewer are encoded in less time than a worker needs to start
FILES_PER_GROUP = (8, 64)  # at least, unless a file has many slices; at most


@dataclass(frozen=True)
class EncodedSlice:
    """One slice: the key of its sample, its slice number, PNG, counts of pixels and affine; see SourceSlice."""

    key: str
    slice: int | None
    png: bytes
    pixel_counts: PixelCounts
    affine: AffineRows | None


@dataclass(frozen=True)
class EncodedFile:
    """The slices of a file.

    Attributes:
        messages: that the reader reported.
        error: why the file cannot be read; None if it was read.
    """

    slices: tuple[EncodedSlice, ...]
    messages: tuple[str, ...]
    error: DataError | None = None


def encode_files(
    read: Reader, files: Sequence[SourceFile], *, slices_per_file: int, workers: int
) -> Generator[EncodedFile, None, None]:
    """Yield the encoded slices of each file, in order; they do not depend on the number of workers.

    Args:
        slices_per_file: expected number of slices, for the division of the work.
        workers: number of processes; 1 encodes in this process. A small source uses fewer.
    Raises:
        StalledError: a worker died.
    """
    workers = min(workers, len(files) * slices_per_file // MIN_SLICES_PER_WORKER)
    groups = group_files(files, slices_per_file) if workers > 1 else [[file] for file in files]
    for encoded in map_in_order(partial(_encode_group, read), groups, workers=workers):
        yield from encoded


def group_files(files: Sequence[SourceFile], slices_per_file: int) -> list[list[SourceFile]]:
    """Divide files into groups of consecutive files, each of which one worker encodes.

    Consecutive pictures of a subject stay together where possible: those of more than 8 bits have a common range of
    grey levels, which a worker finds by reading all of them.
    """
    least, most = FILES_PER_GROUP
    least = max(least // slices_per_file, 1)
    groups: list[list[SourceFile]] = []
    for file in files:
        group = groups[-1] if groups else None
        if group is None or len(group) >= most or (len(group) >= least and group[-1].subject != file.subject):
            groups.append([file])
        else:
            group.append(file)
    return groups


def _encode_group(read: Reader, files: Sequence[SourceFile]) -> list[EncodedFile]:
    return [_encode_file(read, file) for file in files]


def _encode_file(read: Reader, file: SourceFile) -> EncodedFile:
    messages: list[str] = []
    try:
        slices = read(file, messages.append)
    except DataError as error:
        # A new one: the traceback would keep the pixels.
        return EncodedFile((), tuple(messages), type(error)(error.problems))
    encoded = (
        EncodedSlice(each.key, each.slice, encode_png(each.image), count_pixels(each.image), each.affine)
        for each in slices
    )
    return EncodedFile(tuple(encoded), tuple(messages))
