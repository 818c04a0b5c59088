"""The previous slice of each slice: the one of the same volume and the same view with the slice number before."""

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from vqdist.data.order import Indexes
from vqdist.data.shards.reader import ShardReader

NO_PREVIOUS = -1
_DIGITS = re.compile(r"\d+")


class SliceName(NamedTuple):
    """What identifies a slice and its neighbours.

    Attributes:
        subject, number: None if unknown; such a slice has no neighbours.
        view: mirroring and shift of an augmented view; equal for views that can be compared place by place.
    """

    key: str
    subject: str | None
    number: int | None
    view: str = ""

    @classmethod
    def from_json(cls, key: str, info: dict[str, Any]) -> Self:
        """Return the name of a sample with this key and JSON."""
        view = info.get("view")
        return cls(key, info.get("subject"), info.get("slice"), "" if view is None else json.dumps(view))

    @property
    def series(self) -> str:
        """The key without the slice number, which tells two scans of a subject, and two equal views, apart."""
        key, view = self.key, ""
        if self.view:
            key, dash, number = key.rpartition("-view")
            view = dash + number
        for found in reversed(list(_DIGITS.finditer(key))):
            if int(found[0]) == self.number:
                return key[: found.start()] + key[found.end() :] + view
        return key + view


def find_previous(slices: Sequence[SliceName]) -> Indexes:
    """Return for each slice the index of the previous one, (n,) int64; NO_PREVIOUS where there is none.

    The slices of a subject are one volume, unless two have the same number: then the volumes are told apart by the
    keys.
    """
    previous = np.full(len(slices), NO_PREVIOUS, np.int64)
    subjects = _group(
        ((name.subject, name.view), index)
        for index, name in enumerate(slices)
        if name.subject is not None and name.number is not None
    )
    for members in subjects:
        one_volume = len({slices[index].number for index in members}) == len(members)
        volumes = [members] if one_volume else _group((slices[index].series, index) for index in members)
        for volume in volumes:
            places = {slices[index].number: index for index in volume}
            for number, index in places.items():
                assert number is not None, "left out above"
                previous[index] = places.get(number - 1, NO_PREVIOUS)
    return previous


def list_volumes(previous: Indexes) -> list[list[int]]:
    """Return the slices of each volume from the first on, by their indexes, for volumes of at least two slices.

    Args:
        previous: as `find_previous` returns it. Where a slice is missing, a volume counts as two.
    """
    following = {before: index for index, before in enumerate(previous.tolist()) if before != NO_PREVIOUS}
    volumes = []
    for first in np.flatnonzero(previous == NO_PREVIOUS).tolist():
        volume = [first]
        while volume[-1] in following:
            volume.append(following[volume[-1]])
        volumes.append(volume)
    return [volume for volume in volumes if len(volume) > 1]


def find_previous_samples(reader: ShardReader) -> Indexes:
    """Return for each sample of a split the index of the previous slice; reads the JSON of every sample."""
    return find_previous(list_slice_names(reader))


def list_slice_names(reader: ShardReader) -> list[SliceName]:
    """Return the name of each sample of a split; reads the JSON of every sample."""
    return [SliceName.from_json(reader.key(i), reader.read_info(i)) for i in range(len(reader))]


def explain_no_previous(slices: Sequence[SliceName]) -> tuple[str, str]:
    """Return why no slice of a split has a previous one, and what is expected."""
    found = "no slice with a previous one"
    if not any(name.subject is not None and name.number is not None for name in slices):
        names = "volumes, or pictures with names such as case_012_slice_3.png"
        return f"{found}: the images have no subjects or no slice numbers", f"{names}: shard those, then encode them"
    if all(name.view for name in slices):
        expected = "views of a subject with one shift: encode again, as an earlier version gave each slice its own"
        return f"{found} in the same view", expected
    expected = "slices of a subject whose numbers follow each other: shard the images again with all slices"
    return f"{found}: no two slice numbers of a subject follow each other", expected


def _group(pairs: Iterable[tuple[Hashable, int]]) -> list[list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for name, index in pairs:
        groups[name].append(index)
    return list(groups.values())
