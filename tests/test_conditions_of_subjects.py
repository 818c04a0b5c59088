"""From a table of subjects to samples of an age: shard, encode, train, sample, score, complete and evaluate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import run_command_main, save_vqvae, train, write_codes

from vqdist.data.shards.manifest import load_manifest

FLAGS = ("--model.hidden", 8, "--model.layers", 2, "--model.kernel", 3, "--train.max_steps", 2, "--train.eval_every", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic brains of `images` with age and sex, their `codes`, and a `prior` with both."""
    folder = tmp_path_factory.mktemp("subjects")
    words = ["demo", folder / "images", "--num-subjects", 8, "--num-slices", 2, "--image-size", 32]
    assert run_command_main("shard", [str(word) for word in (*words, "--split", 0.5, 0.25, 0.25)]) == 0
    codes = write_codes(folder / "codes", save_vqvae(folder / "run"), folder / "images")
    condition = ("--model.condition", "[slice, age, sex]", "--model.condition_dropout", 0.2)
    names = ("--run.dir", folder, "--run.name", "prior", "--data.path", codes, "--data.global_batch_size", 4)
    train("--task", "pixelcnn", *names, *FLAGS, *condition, "--data.cache", "memory", "--train.preview_every", 2)
    return folder


def run(capsys: pytest.CaptureFixture[str], command: str, *words: object) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = run_command_main(command, [str(word) for word in words])
    out, said = capsys.readouterr()
    return code, json.loads(out) if out else {}, said


def test_the_dataset_has_the_table(folder: Path) -> None:
    for name in ("images", "codes"):
        manifest = load_manifest(folder / name)
        assert {name: found.kind for name, found in manifest.attributes.items()} == {"age": "number", "sex": "category"}
        people = {row.values for row in manifest.attribute_rows}
        assert len(people) == 4
        ages = [age for age, _ in people]
        assert (manifest.attributes["age"].low, manifest.attributes["age"].high) == (min(ages), max(ages))
    table = (folder / "images" / "subjects.csv").read_text().splitlines()
    assert table[0] == "subject,age,sex"
    assert len(table) == 9


def test_encode_says_how_to_use_the_attributes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--run", folder / "run", "--data", folder / "images", "--out", tmp_path / "codes", "--device", "cpu")
    code, _, said = run(capsys, "encode", *words)
    assert code == 0, said
    flags = "--model.condition '[slice, age, sex]' --model.condition_dropout 0.1"
    assert said.splitlines()[-1] == f"          attributes age, sex: add {flags} to use them"


def test_samples_of_asked_ages(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age = load_manifest(folder / "codes").attributes["age"]
    middle = (age.low + age.high) / 2
    words = ("--prior", folder / "prior", "--num", 6, "--out", tmp_path / "a", "--guidance", 1.5)
    ages = f"age={age.low},{middle},{age.high}"
    assert run(capsys, "sample", *words, "--condition", ages, "sex=F")[0] == 0
    samples = json.loads((tmp_path / "a" / "samples.json").read_text())["samples"]
    found = [sample["attributes"]["age"] for sample in samples]
    assert found == pytest.approx([age.low, middle, age.high] * 2, abs=1e-4)
    assert {sample["attributes"]["sex"] for sample in samples} == {"F"}
    assert len({sample["slice"] for sample in samples[:3]}) == 1, "the maps of one round share the drawn conditions"
    with Image.open(tmp_path / "a" / "grid.png") as grid:
        assert grid.size == (3 * 34 + 2, 2 * 34 + 2)
    report = run(capsys, "evaluate", "--run", folder / "prior", "--samples", tmp_path / "a")[1]["realism"]
    effects = report["anatomy_by_condition"]
    assert effects["age"]["samples"]["slices"] == 6
    assert effects["sex"]["test"]["slices"] == 4
    assert effects["age"]["train"].keys() == {"slices", "brain_area", "fluid_share", "ventricle_area"}


def test_wrong_conditions_list_what_there_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--prior", folder / "prior", "--num", 2, "--out", tmp_path / "a", "--condition")
    code, _, said = run(capsys, "sample", *words, "age=150", "sex=X", "mmse=3")
    assert code == 2
    assert "--condition age: found 150; expected a number from" in said
    assert "--extrapolate true accepts others" in said
    assert "--condition sex: found 'X'; expected F, M or unknown" in said
    assert "--condition mmse: found 3; expected one of the conditions of the prior: slice, age, sex" in said
    assert "takes no mmse; model.condition chooses the conditions when a prior is trained" in said
    assert "takes no Ages; did you mean age?" in run(capsys, "sample", *words, "Ages=60")[2]
    assert (
        "conditions are separated by spaces: --condition age=75 sex=F"
        in run(capsys, "sample", *words, "age=60,sex=M")[2]
    )
    assert run(capsys, "sample", *words, "age=150", "--extrapolate", "true")[0] == 0
    assert run(capsys, "sample", *words, "age")[2].count("--condition: found 'age'; expected NAME=VALUE") == 1


def test_the_report_shows_what_the_attributes_are_worth(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = run(capsys, "evaluate", "--run", folder / "prior", "--split", "train")
    assert code == 0
    metrics = report["metrics"]
    saved = metrics["shuffled_bits_per_code"]["mean"] - metrics["bits_per_code"]["mean"]
    assert metrics["saved_bits_per_code"]["mean"] == pytest.approx(saved, abs=1e-6)
    for name in ("unconditional", "without_age", "without_sex"):
        assert 0 < metrics[f"{name}_bits_per_code"]["mean"] < 8
    sexes = report["categories"].get("sex")
    if sexes is not None:  # all four people may have the same sex
        assert 0 <= sexes["position_counts"]["balanced_accuracy"]["mean"] <= 1


def test_score_and_complete_take_the_conditions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = ("--prior", folder / "prior", "--data", folder / "images", "--condition", "sex=M")
    assert run(capsys, "complete", *given, "--mask", tmp_path / "mask.png", "--out", tmp_path / "c", "--num", 1)[0] == 0
    completed = json.loads((tmp_path / "c" / "completions.json").read_text())["slices"]
    assert {slice_["attributes"]["sex"] for slice_ in completed} == {"M"}
    assert all(slice_["attributes"]["age"] is not None for slice_ in completed)
    assert run(capsys, "score", *given, "--out", tmp_path / "s", "--restorations", 2)[0] == 0
    assert len((tmp_path / "s" / "scores.jsonl").read_text().splitlines()) == len(completed)


def test_the_preview_has_a_row_for_each_value(folder: Path) -> None:
    with Image.open(folder / "prior" / "previews" / "step-00000002.png") as picture:
        assert (picture.height - 2) // 34 == 1 + 3 + len(load_manifest(folder / "codes").attributes["sex"].values)
