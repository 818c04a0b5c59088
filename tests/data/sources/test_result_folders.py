"""Which pictures of the folders that commands write are single slices, and what each was made for."""

import json
from pathlib import Path

import pytest
from PIL import Image

from vqdist.data.sources.layouts import open_source
from vqdist.data.sources.result_folders import read_entries
from vqdist.foundation.errors import DataError
from vqdist.inference.reconstruction import find_pictures
from vqdist.inference.slice_source import list_pictures, open_pictures


def write_pictures(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 9).save(folder / name)


@pytest.mark.parametrize(
    ("written", "overviews"),
    [
        ("samples.json", ["grid.png", "volume-00000.png"]),
        ("completions.json", ["grid.png"]),
        ("scores.jsonl", ["maps/a.png", "figures/slices.png"]),
        ("reconstructions.png", ["reconstructions.png", "pictures/0000-a.png"]),
    ],
)
def test_pictures_that_show_no_single_slice_are_left_out(tmp_path: Path, written: str, overviews: list[str]) -> None:
    folder = tmp_path / "results"
    write_pictures(folder, "a.png", "deep/er/grid.png", *overviews)
    if not written.endswith(".png"):
        expected = sorted(folder.rglob("*.png"))
        assert find_pictures(folder) == expected  # of any other folder, all pictures are slices
        (folder / written).touch()
    assert find_pictures(folder) == find_pictures(tmp_path) == [folder / "a.png", folder / "deep" / "er" / "grid.png"]
    assert find_pictures(folder / overviews[-1]) == [folder / overviews[-1]]


@pytest.mark.parametrize(
    ("written", "slices", "overviews"),
    [
        ("samples.json", ["sample-00000.png", "sample-00001.png"], ["grid.png"]),
        ("completions.json", ["a-0.png", "a-1.png"], ["grid.png"]),
        ("scores.jsonl", ["restored/a.png"], ["maps/a.png"]),
    ],
)
def test_shard_takes_the_slices_of_a_result_folder(
    tmp_path: Path, written: str, slices: list[str], overviews: list[str]
) -> None:
    write_pictures(tmp_path, *slices, *overviews)
    assert len(open_source(tmp_path).files) == len(slices) + len(overviews)  # of any other folder, all are slices
    (tmp_path / written).touch()
    for include in ((), ("*.png",)):  # a pattern may leave out what tells who wrote the pictures
        source = open_source(tmp_path, include=include)
        assert [file.source for file in source.files] == slices
        assert set(overviews) <= set(source.passed_over)
    with pytest.raises(DataError, match=r"found only figures of slices, such as .*; expected pictures of single"):
        open_source(tmp_path, include=overviews)


def test_a_folder_of_overviews_only_is_explained(tmp_path: Path) -> None:
    write_pictures(tmp_path, "grid.png")
    (tmp_path / "samples.json").touch()
    with pytest.raises(DataError, match=r"found only figures of slices, such as grid\.png; expected a picture"):
        find_pictures(tmp_path)


def test_samples_have_the_conditions_that_they_were_drawn_for(tmp_path: Path) -> None:
    write_pictures(tmp_path / "samples", "sample-00000.png", "sample-00001.png", "grid.png")
    write_pictures(tmp_path, "case_1_slice_3.png")
    attributes = {"age": 75.5, "sex": "F", "education": None}
    samples = [
        {"file": "sample-00000.png", "label": 2, "slice": 7, "attributes": attributes},
        {"file": "sample-00001.png", "label": None, "slice": None},
    ]
    (tmp_path / "samples" / "samples.json").write_text(json.dumps({"samples": samples}))
    source = open_pictures(tmp_path, list_pictures(tmp_path), channels=1)
    found = [(info.key, info.label, info.slice, info.attributes) for info in source.infos]
    assert found == [
        ("case_1_slice_3", None, 3, {}),
        ("samples-sample-00000", 2, 7, {"age": 75.5, "sex": "F"}),
        ("samples-sample-00001", None, None, {}),
    ]
    one = tmp_path / "samples" / "sample-00000.png"
    assert open_pictures(one, [one], channels=1).infos[0].slice == 7


def test_completions_have_the_conditions_of_their_slice(tmp_path: Path) -> None:
    completions = [{"file": "a-0.png", "bits": 2.0}, {"file": "a-1.png", "bits": 3.0}]
    described = [{"key": "a", "label": None, "slice": 5, "completions": completions}]
    (tmp_path / "completions.json").write_text(json.dumps({"slices": described}))
    entries = read_entries(tmp_path)
    assert {name: (entry["slice"], entry["subject"]) for name, entry in entries.items()} == {
        "a-0.png": (5, "a"),
        "a-1.png": (5, "a"),
    }


def test_files_of_other_content_are_named(tmp_path: Path) -> None:
    assert read_entries(tmp_path) == {}
    for name, texts in {
        "completions.json": ['{"slices": [{"completions": [{"file": "a.png"}]}]}', '{"slices": [1]}', "[]"],
        "samples.json": ['{"samples": [{"file": "../a.png"}]}', '{"samples": [1]}', '{"samples": []}'],
    }.items():
        for text in texts:
            (tmp_path / name).write_text(text)
            with pytest.raises(DataError, match=rf"{name}: found no list of samples with their files"):
                read_entries(tmp_path)
