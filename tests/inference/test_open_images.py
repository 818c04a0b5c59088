"""Images for encode and evaluate: the settings of the run apply to third-party shards, and options override them."""

from pathlib import Path

import pytest
import yaml
from support.third_party_shards import encode_picture, write_tar

from vqdist.config.command_options import EncodeOptions
from vqdist.foundation.errors import DataError
from vqdist.inference.open_images import open_images


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two samples with two pictures each, and one without any."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pictures = {"a.png": encode_picture(1, "PNG"), "b.png": encode_picture(1, "PNG"), "c.txt": b"a caption"}
    pictures |= {"a.jpg": encode_picture(1, "JPEG"), "b.jpg": encode_picture(1, "JPEG")}
    return write_tar(tmp_path / "set" / "train-0.tar", pictures).parent


def make_options(tmp_path: Path, **options: str) -> EncodeOptions:
    return EncodeOptions(run=tmp_path / "run", data=tmp_path / "set", out=tmp_path / "out", **options)


def write_run(tmp_path: Path, **data: object) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump({"data": data}))


def test_a_saved_model_without_its_run_has_the_defaults(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 pictures"):
        open_images(shards, make_options(tmp_path))
    options = make_options(tmp_path, image_key="jpg", on_error="skip")
    assert open_images(shards, options).manifest.image_key == "jpg"


def test_the_settings_of_the_run_apply_unless_options_replace_them(shards: Path, tmp_path: Path) -> None:
    write_run(tmp_path, image_key="jpg", on_error="skip")
    dataset = open_images(shards, make_options(tmp_path))
    assert (dataset.manifest.image_key, dataset.manifest.splits["train"].samples) == ("jpg", 2)
    assert (
        open_images(shards, make_options(tmp_path, image_key="png")).manifest.fingerprint
        != dataset.manifest.fingerprint
    )
    with pytest.raises(DataError, match=r"found c\.txt"):
        open_images(shards, make_options(tmp_path, on_error="raise"))


def test_the_settings_of_an_earlier_index_apply_to_the_images_of_codes(shards: Path, tmp_path: Path) -> None:
    write_run(tmp_path)
    earlier = open_images(shards, make_options(tmp_path, image_key="jpg", on_error="skip"))
    again = open_images(shards, make_options(tmp_path), earlier.manifest.source)
    assert again.folder == earlier.folder


@pytest.mark.parametrize("text", ["[", "- 1", "data: 3", "{}"])
def test_an_unreadable_configuration_gives_the_defaults(shards: Path, tmp_path: Path, text: str) -> None:
    write_run(tmp_path)
    (tmp_path / "run" / "config.yaml").write_text(text)
    with pytest.raises(DataError, match="2 pictures"):
        open_images(shards, make_options(tmp_path))
