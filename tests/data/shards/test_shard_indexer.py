"""The picture of a sample: the only one, or the one that image_key chooses."""

import pytest

from vqdist.data.shards.shard_indexer import IndexSettings, choose_picture
from vqdist.foundation.errors import DataError


@pytest.mark.parametrize(
    ("extensions", "image_key", "chosen"),
    [
        ("png json", None, "png"),
        ("seg.jpeg txt", None, "seg.jpeg"),
        ("jpg png", "png", "png"),
        ("jpg png", ".JPG", "jpg"),
        ("jpeg seg.png", "jpg;jpeg", "jpeg"),
        ("image.png mask.png", "image.png", "image.png"),
    ],
)
def test_the_picture_is_chosen(extensions: str, image_key: str | None, chosen: str) -> None:
    names = {extension: f"a.{extension}" for extension in extensions.split()}
    assert choose_picture(names, IndexSettings(image_key), "here") == chosen


@pytest.mark.parametrize(
    ("extensions", "image_key", "message"),
    [
        ("json txt", None, r"here: found a.json, a.txt; expected a picture, png, jpg or jpeg"),
        ("webp", None, r"found a.webp; expected a picture"),
        ("jpg png", None, r"found 2 pictures: a.jpg, a.png; expected one picture; .* --data.image_key jpg or"),
        ("png tif", None, r"found 2 pictures: a.png, a.tif"),
        ("png seg.png", None, r"A key ends at the first dot"),
        ("png", "jpg;jpeg", r"found a.png; expected a member with the extension jpg or jpeg, which image_key names"),
    ],
)
def test_no_or_several_pictures_are_refused(extensions: str, image_key: str | None, message: str) -> None:
    names = {extension: f"a.{extension}" for extension in extensions.split()}
    with pytest.raises(DataError, match=message):
        choose_picture(names, IndexSettings(image_key), "here")
