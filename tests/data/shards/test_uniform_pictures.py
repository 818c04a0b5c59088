"""All pictures of third-party shards have one size and one name: checked, or selected by the first shard."""

import pytest

from vqdist.data.shards.findings import Findings
from vqdist.data.shards.shard_indexer import FoundSample
from vqdist.data.shards.uniform_pictures import UniformPictures
from vqdist.foundation.errors import DataError


def make_samples(*kinds: tuple[str, int]) -> list[FoundSample]:
    """Return a sample for each (name, rows) of a picture."""
    return [FoundSample(f"{i}", f"here {i}", (0, 1, 0), name, (rows, 4), 1, {}) for i, (name, rows) in enumerate(kinds)]


def test_equal_pictures_pass() -> None:
    pictures = UniformPictures()
    pictures.check(make_samples(("", 4), ("", 4)), "set")
    pictures.check([], "set")
    pictures.check(make_samples(("", 4)), "set")


def test_differences_inside_and_between_shards_are_refused() -> None:
    pictures = UniformPictures()
    pictures.check(make_samples(("", 4)), "set")
    with pytest.raises(
        DataError, match=r"set: found 4 x 4 x 1 in here 0; 5 x 4 x 1 in here 0; expected pictures of one"
    ):
        pictures.check(make_samples(("", 5)), "set")
    with pytest.raises(DataError, match=r"KEY\.EXTENSION in here 0; KEY\.seg\.EXTENSION in here 1; expected one name"):
        UniformPictures().check(make_samples(("", 4), ("seg", 4)), "set")


def test_the_most_frequent_kind_of_the_first_shard_is_selected() -> None:
    pictures, findings = UniformPictures(), Findings("set")
    assert pictures.select([], findings) == []
    first = pictures.select(make_samples(("", 5), ("", 4), ("", 4), ("seg", 4)), findings)
    assert [sample.key for sample in first] == ["1", "2"]
    second = pictures.select(make_samples(("", 5), ("", 5), ("", 4)), findings)
    assert [sample.key for sample in second] == ["2"]
    assert findings.num_unusable == 4
