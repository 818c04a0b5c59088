"""Each part with tiny sizes: its cases, units and peers. The values mean nothing."""

import os
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from support import on_ranks

from vqdist.benchmarks import checkpoint, ddp, loader, quantizer, resume, sampler, start, step
from vqdist.benchmarks.measure import Bench, Result
from vqdist.benchmarks.training_sessions import make_batch, make_images

BENCH = Bench(torch.device("cpu"), repeats=1, small=True)
# Python 3.12 warns of every fork of a process with threads, and torch starts threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def summarize(results: list[Result], part: str) -> Counter[tuple[str, str | None]]:
    """Count (unit, peer) of the results, all of which have positive values."""
    assert {result.part for result in results} == {part}
    assert all(result.ours > 0 and (result.theirs is None or result.theirs > 0) for result in results)
    return Counter((result.unit, result.peer) for result in results)


def test_quantizer() -> None:
    pytest.importorskip("vector_quantize_pytorch")
    pytest.importorskip("monai")
    peers = summarize(quantizer.run(BENCH), "quantizer")
    assert peers == {("ms", "lucidrains"): 1, ("ms", "MONAI"): 1, ("MiB", "goal"): 1}


def test_quantizer_without_its_peers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "monai.networks.layers.vector_quantizer", None)
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    monkeypatch.setattr(quantizer.subprocess, "run", lambda *words, **options: SimpleNamespace(stdout="5.5\n"))
    (result,) = quantizer.run(BENCH)
    assert (result.peer, result.ours) == ("goal", 5.5)
    printed = capsys.readouterr().err
    assert "lucidrains: skipped" in printed
    assert "MONAI: skipped" in printed
    assert "pip install vqdist[bench]" in printed


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs a peak that can be reset")
def test_memory_of_the_search_is_that_of_what_it_allocates(monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(latents: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(latents) * 2**18)  # 1 MiB for each latent

    monkeypatch.setattr(quantizer, "nearest_code", lambda latents, codebook: None)
    assert quantizer.measure_memory_mib(256, 4) < 16
    monkeypatch.setattr(quantizer, "nearest_code", allocate)
    assert quantizer.measure_memory_mib(200, 4) == pytest.approx(200, rel=0.1)


def test_step() -> None:
    results = step.run(BENCH)
    peers = summarize(results, "step")
    assert set(peers) == {("ms", "usual form, fp32"), ("ms", results[1].peer), ("samples/s", None)}
    assert str(results[1].peer).startswith("its convolutions alone, ")
    assert results[-1].ours == pytest.approx(2 / results[0].ours * 1e3)


def test_sampler() -> None:
    results = sampler.run(BENCH)
    assert summarize(results, "sampler") == {("s", "16 forwards"): 3, ("s", "one forward"): 3}
    naive, forward = results[:2]
    assert naive.theirs == pytest.approx(16 * (forward.theirs or 0))


def test_resume() -> None:
    results = resume.run(BENCH)
    assert summarize(results, "resume") == {("s", "goal"): 6}
    assert [result.case.split(", ")[1] for result in results] == ["windowed order"] * 3 + ["full order"] * 3


def test_checkpoint() -> None:
    results = checkpoint.run(BENCH)
    assert summarize(results, "checkpoint") == {("ms", "accelerate"): 2, ("%", "goal"): 1}
    assert results[2].ours == pytest.approx(results[0].ours / 1e3 / (15 * 60) * 100)


def test_loader() -> None:
    results = loader.run(BENCH)
    assert summarize(results, "loader").total() == 5
    assert [result.peer for result in results] == [
        "ImageFolder, Grayscale, DataLoader",
        "webdataset, Pillow",
        "decoding alone in 2 processes, Pillow",
        "decoding alone in 2 processes, vqdist",
        "ours, from PNG",
    ]


def test_start(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(start.subprocess, "run", lambda command, **options: calls.append(command[1:]))
    assert summarize(start.run(BENCH), "start") == {("s", 'python -c "import torch"'): 1}
    assert calls == [["-m", "vqdist.train", "--help"], ["-c", "import torch"]] * 2


def test_ddp(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cases = []
    monkeypatch.setattr(ddp, "measure_ranks", lambda ranks, case: (cases.append(case), 3.0 * ranks)[1])
    monkeypatch.setattr(ddp, "_cores", lambda: [0, 1])
    (result,) = ddp.run(BENCH)
    assert (result.peer, result.ratio, result.unit) == ("1 rank", 2.0, "steps/s")
    assert cases[0] == cases[1] == ddp.DdpCase(32, 2, 8, cases[0].precision, on_gpu=False)
    monkeypatch.setattr(ddp, "_cores", lambda: [0])
    assert ddp.run(BENCH) == []
    assert "skipped: 1 core" in capsys.readouterr().err


needs_two_cores = pytest.mark.skipif(len(ddp._cores()) < 2, reason="needs two cores")


def train_tiny() -> float:
    return ddp.train_as_rank(ddp.DdpCase(32, 2, 8, "fp32", on_gpu=False))


@needs_two_cores
@pytest.mark.ranks
def test_ddp_on_two_ranks() -> None:
    assert min(on_ranks(train_tiny, ranks=2)) > 0


@needs_two_cores
@pytest.mark.long
def test_ddp_in_processes_of_its_own() -> None:
    assert ddp.measure_ranks(2, ddp.DdpCase(32, 2, 8, "fp32", on_gpu=False)) > 0


def test_ranks_share_a_global_batch() -> None:
    images = make_images(5, 32)
    assert images.shape == (5, 1, 32, 32)
    shares = [make_batch(images, rank=rank, world_size=2) for rank in (0, 1)]
    assert [share.positions.tolist() for share in shares] == [[0, 2, 4], [1, 3]]
    assert torch.equal(shares[1].values, images[[1, 3]])
