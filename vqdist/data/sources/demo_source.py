"""The source of the demo: synthetic brains."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from vqdist.config.attributes import Kind
from vqdist.data.sources.phantom import FIELD_OF_VIEW_MM, describe_phantom, phantom_slice
from vqdist.data.sources.slice_affines import centred_affine
from vqdist.data.sources.source import Source, SourceFile, SourceSlice, number_slices
from vqdist.data.sources.subjects import Subject, describe_subjects
from vqdist.foundation.progress import print_message

DEMO = "demo"


def open_demo(image_size: int, channels: int, num_slices: int, num_subjects: int, seed: int) -> Source:
    """Return synthetic brains as a source, with age and sex; they depend only on the seed and their number."""
    names = [f"phantom_{number:04d}" for number in range(num_subjects)]
    numbers = {name: number for number, name in enumerate(names)}
    read = partial(
        _draw_phantom, numbers=numbers, channels=channels, num_slices=num_slices, image_size=image_size, seed=seed
    )
    people = [describe_phantom(number, seed) for number in range(num_subjects)]
    files = tuple(
        SourceFile(DEMO, name, name, attributes={"age": person.age, "sex": person.sex})
        for name, person in zip(names, people, strict=True)
    )
    summary = describe_subjects([Subject(name, "number") for name in names])
    kinds: dict[str, Kind] = {"age": "number", "sex": "category"}
    return Source(DEMO, files, channels, (), (), read, subject_summary=summary, attribute_kinds=kinds)


def _draw_phantom(
    file: SourceFile,
    report: Callable[[str], None] = print_message,
    *,
    numbers: Mapping[str, int],
    channels: int,
    num_slices: int,
    image_size: int,
    seed: int,
) -> list[SourceSlice]:
    options = {"num_slices": num_slices, "image_size": image_size, "seed": seed}
    slices = [phantom_slice(numbers[file.key], number, **options) for number in range(num_slices)]
    affine = centred_affine(FIELD_OF_VIEW_MM / image_size, image_size)
    return number_slices(file, np.stack(slices), channels, affine)
