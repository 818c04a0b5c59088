"""The bench command: its JSON, its table and its usage errors. The values of tiny sizes mean nothing."""

import json
from pathlib import Path

import pytest
from support import save_vqvae, write_images

from vqdist.bench import main
from vqdist.config.command_options import BENCH_PARTS
from vqdist.foundation.command import run_command


def test_json_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "bench.json"
    parts = ["resume", "sampler", "resume"]
    assert main([*parts, "--small", "true", "--repeats", "1", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("bench: 2 parts: resume, sampler\n")
    (line,) = captured.out.splitlines()
    report = json.loads(line)
    assert report == json.loads(out.read_text())
    assert report["machine"]["cores"] >= 1
    assert list(dict.fromkeys(result["part"] for result in report["results"])) == ["resume", "sampler"]
    assert len(report["results"]) == 6 + 6
    for result in report["results"]:
        assert set(result) == {"part", "case", "ours", "unit", "peer", "theirs", "ratio"}
        assert result["ours"] > 0
        assert result["case"] in captured.err


def test_every_part_is_a_module() -> None:
    folder = Path(__file__).parents[1] / "vqdist" / "benchmarks"
    assert all((folder / f"{part}.py").is_file() for part in (*BENCH_PARTS, "quality"))


def test_quality_requires_a_run_and_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["quality", "--data", str(tmp_path)]) == 2
    assert "quality: found no --run; expected the run of a VQ-VAE" in capsys.readouterr().err
    assert run_command(main, ["ddp", "--data", str(tmp_path)]) == 2
    assert "expected only with the part quality" in capsys.readouterr().err


def test_quality_requires_a_run_with_a_wall_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    assert run_command(main, ["quality", "--run", str(run), "--data", str(images)]) == 2
    assert "metrics.jsonl: found no line of training metrics" in capsys.readouterr().err


def test_an_unknown_part_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["nonsense"]) == 2
    assert all(part in capsys.readouterr().err for part in BENCH_PARTS[:1])


def test_problems_are_reported_before_anything_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["quantizer", "--repeats", "4", "--out", str(tmp_path)]
    assert run_command(main, words) == 2
    printed = capsys.readouterr().err
    assert "2 problems" in printed
    assert "--repeats: found 4; expected at least 5, or --small true" in printed
    assert "which is a folder" in printed
    assert run_command(main, [*words, "--small", "true", "--repeats", "0"]) == 2
    assert "--repeats: found 0; expected at least 1" in capsys.readouterr().err
