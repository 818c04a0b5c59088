"""The bench command with tiny sizes: its JSON, its table, and what it leaves out. No figure is held to anything."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import ALONE, save_vqvae, write_images

from vqdist.bench import PARTS, main
from vqdist.benchmarks.measure import Result, compare
from vqdist.benchmarks.reference_vqvae import UsualVQVAE
from vqdist.config.command_options import EvaluateOptions
from vqdist.evaluation.report import evaluate
from vqdist.foundation.command import run_command
from vqdist.models.vqvae import VQVAE

# Since Python 3.12 every fork beside a thread is warned of; torch has threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_parts_give_the_json_of_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("vector_quantize_pytorch")
    out = tmp_path / "new" / "bench.json"
    parts = ["quantizer", "step", "sampler", "resume", "checkpoint"]
    assert main([*parts, "--small", "true", "--repeats", "1", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    report = json.loads(line)
    assert report == json.loads(out.read_text())
    assert report["machine"]["cores"] >= 1
    assert {result["part"] for result in report["results"]} == set(parts)
    for result in report["results"]:
        assert set(result) == {"part", "case", "ours", "unit", "peer", "theirs", "ratio"}
        assert result["ours"] > 0
        assert result["case"] in captured.err
    assert {"lucidrains", "MONAI"} <= {result["peer"] for result in report["results"]}


def test_the_loader_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loader", "--small", "true", "--repeats", "1"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert len({result["peer"] for result in results}) == 5


def test_quality_trains_the_peers_for_as_long_as_the_run_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("monai")
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    lines = [
        {"step": step, "split": split, "perf": {"seconds": 0.2}} for step in (1, 2) for split in ("train", "validate")
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    start = time.monotonic()
    assert main(["quality", "--run", str(run), "--data", str(images), "--small", "true"]) == 0
    assert time.monotonic() - start >= 2 * 0.8
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["unit"] for result in results] == ["SSIM"] * 4 + ["dB"] * 2 + ["codes"] * 2
    assert {result["peer"] for result in results} == {"usual form", "MONAI"}
    found = evaluate(EvaluateOptions(run=run, data=images, figures=None), ALONE)["metrics"]
    for result in results:
        name = result["case"].rpartition(" ")[2]
        assert result["ours"] == pytest.approx(found[name]["mean"], rel=1e-6)


def test_quality_asks_for_a_run_and_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["quality", "--data", str(tmp_path)]) == 2
    assert "quality: found no --run; expected the run of a VQ-VAE" in capsys.readouterr().err
    assert run_command(main, ["ddp", "--data", str(tmp_path)]) == 2
    assert "expected only with the part quality" in capsys.readouterr().err


def test_quality_needs_a_run_that_tells_its_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    (run / "metrics.jsonl").unlink(missing_ok=True)
    assert run_command(main, ["quality", "--run", str(run), "--data", str(images)]) == 2
    assert "metrics.jsonl: found no line of a run's record" in capsys.readouterr().err


def test_the_ratio_of_ssim_is_one_of_distances_to_one() -> None:
    assert compare("p", "c", "SSIM", 0.9, {"x": 0.6})[0].ratio == pytest.approx(4)


def test_a_missing_package_leaves_its_case_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.layers.vector_quantizer", None)
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    assert main(["quantizer", "--small", "true", "--repeats", "1"]) == 0
    captured = capsys.readouterr()
    assert "MONAI: left out" in captured.err
    assert "pip install vqdist[bench]" in captured.err
    assert {result["peer"] for result in json.loads(captured.out)["results"]} == {"goal"}


def test_an_unknown_part_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nonsense"])
    assert ended.value.code == 2
    assert all(part in capsys.readouterr().err for part in PARTS[:1])


def test_what_is_wrong_is_told_before_anything_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["quantizer", "--repeats", "4", "--out", str(tmp_path)]
    assert run_command(main, words) == 2
    told = capsys.readouterr().err
    assert "2 problems" in told
    assert "--repeats: found 4; expected at least 5, or --small true" in told
    assert "which is a folder" in told
    assert run_command(main, [*words, "--small", "true", "--repeats", "0"]) == 2
    assert "--repeats: found 0; expected at least 1" in capsys.readouterr().err


def test_the_ratio_is_above_one_where_ours_is_better() -> None:
    faster, slower = (compare("p", "c", "ms", ours, {"x": 10.0})[0] for ours in (5.0, 20.0))
    assert (faster.ratio, slower.ratio) == (2.0, 0.5)
    assert compare("p", "c", "samples/s", 20.0, {"x": 10.0})[0].ratio == 2.0
    assert Result("p", "c", 1.0, "s").ratio is None


def test_the_usual_form_has_our_layers() -> None:
    ours = VQVAE(1, hidden=128, residual_hidden=32, residual_layers=2, downsample=4)
    usual = UsualVQVAE(128, 32, 512, 64)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, usual)]
    assert counts[0] == counts[1]
    recon, _, codes = usual(torch.rand(1, 1, 16, 16))
    assert recon.shape == (1, 1, 16, 16)
    assert codes.shape == (1, 4, 4)
