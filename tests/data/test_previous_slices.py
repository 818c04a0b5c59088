"""The previous slice of each slice."""

from pathlib import Path

import numpy as np

from vqdist.data.previous_slices import (
    NO_PREVIOUS,
    SliceName,
    explain_no_previous,
    find_previous,
    find_previous_samples,
)
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader


def find_keys(*names: SliceName) -> dict[str, str | None]:
    """Return the key of each slice -> that of the previous one."""
    found = find_previous(names).tolist()
    return {
        name.key: None if index == NO_PREVIOUS else names[index].key for name, index in zip(names, found, strict=True)
    }


def test_the_previous_slice_has_the_number_before_in_any_order() -> None:
    names = [SliceName(f"{subject}_{number}", subject, number) for number in (3, 1, 2, 5) for subject in ("a", "b")]
    previous = find_keys(*names)
    expected = {"a_1": None, "a_2": "a_1", "a_3": "a_2", "a_5": None}
    assert previous == expected | {
        key.replace("a", "b"): old and old.replace("a", "b") for key, old in expected.items()
    }


def test_scans_of_a_subject_are_told_apart_by_their_keys() -> None:
    names = [SliceName(f"P1_MR{scan}_slice_{n:03d}", "P1", n) for scan in (1, 2) for n in (1, 2, 3)]
    previous = find_keys(*names)
    assert previous["P1_MR1_slice_002"] == "P1_MR1_slice_001"
    assert previous["P1_MR2_slice_002"] == "P1_MR2_slice_001"
    assert previous["P1_MR2_slice_001"] is None
    assert SliceName("case_01_slice_1-view1", "case_01", 1, view="x").series == "case_01_slice_-view1"


def test_slices_without_number_or_subject_have_none() -> None:
    assert find_keys(SliceName("a", "s", None), SliceName("b", None, 1), SliceName("c", None, 2)) == dict.fromkeys(
        "abc"
    )


def test_views_are_compared_with_the_same_shift_and_mirror_only() -> None:
    def view(number: int, shift: int, view: int) -> SliceName:
        info = {"subject": "s", "slice": number, "view": {"mirror": "up-down", "shift": [shift, 0]}}
        return SliceName.from_json(f"s_{number}-view{view}", info)

    plain = [SliceName.from_json(f"s_{number}", {"subject": "s", "slice": number}) for number in (0, 1)]
    previous = find_keys(*plain, view(0, 3, 1), view(1, 3, 1), view(2, 4, 1))
    assert previous == {"s_0": None, "s_1": "s_0", "s_0-view1": None, "s_1-view1": "s_0-view1", "s_2-view1": None}
    equal = find_keys(*(view(number, 3, views) for views in (1, 2) for number in (0, 1)))  # by chance
    assert equal == {"s_0-view1": None, "s_1-view1": "s_0-view1", "s_0-view2": None, "s_1-view2": "s_0-view2"}


def test_the_samples_of_a_split_are_found_across_shards(volume_codes: Path) -> None:
    manifest = load_manifest(volume_codes)
    reader = ShardReader(volume_codes, manifest, "train")
    assert len(manifest.splits["train"].shards) == 3
    numbers = np.arange(len(reader))
    assert find_previous_samples(reader).tolist() == np.where(numbers % 4 == 0, NO_PREVIOUS, numbers - 1).tolist()


def test_the_hint_follows_from_why_no_slice_has_a_previous_one() -> None:
    for number, view, expected in (
        (None, "", "no slice numbers; expected volumes, or pictures with names such as case_012_slice_3.png: shard"),
        (3, "", "no two slice numbers of a subject follow each other; expected slices of a subject whose numbers"),
        (3, "x", "in the same view; expected views of a subject with one shift: encode again"),
    ):
        assert expected in "; expected ".join(explain_no_previous([SliceName("a", "s", number, view)]))
