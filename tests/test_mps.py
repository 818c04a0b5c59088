"""Every command on a device with the limits of mps: no float64, no operators without a kernel, no collectives."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mps_stand_in import NAME, StandIn, has_kernel
from support import on_ranks, tiny_flags, write_image_set

from vqdist.training.precision_support import precision_problems

SHARED = ("--tracking.mode", "disabled", "--train.max_steps", 8, "--train.preview_every", 8, "--train.eval_every", 8)


def refuse_collectives() -> None:
    """Make every collective operation fail."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a collective on one process")

    for name in ("init_process_group", "all_reduce", "broadcast", "barrier", "all_gather_object"):
        setattr(torch.distributed, name, fail)


def run(command: str, *arguments: object) -> None:
    """Run a command in this process and check that it succeeds."""
    from importlib import import_module

    from vqdist.foundation.command import run_command

    code = run_command(import_module(f"vqdist.{command}").main, [str(word) for word in arguments])
    assert code == 0, f"{command} ended with {code}"


def pipeline(folder: str, codebook: str, ssim_weight: float) -> dict[str, Any]:
    """Train, encode, sample and evaluate both tasks on the device; return the number of calls of each operator."""
    refuse_collectives()
    out = Path(folder)
    images, codes, vqvae, prior = out / "images", out / "codes", out / "vqvae", out / "prior"
    loss = ("--model.codebook", codebook, "--model.ssim_weight", ssim_weight, "--model.restart_every", 4)
    with StandIn.everywhere() as device:
        for task, data, name in (("vqvae", images, "vqvae"), ("pixelcnn", codes, "prior")):
            own = loss if task == "vqvae" else ("--model.dropout", 0.1)
            where = ("--run.dir", out, "--run.name", name, "--data.path", data, "--optim.weight_ema", 0.9)
            run("train", *tiny_flags(task), *SHARED, *where, *own)
            run("evaluate", "--run", out / name, "--data", data, "--out", out / f"{name}.json", "--figures", "null")
            if task == "vqvae":
                run("encode", "--run", vqvae, "--data", images, "--out", codes)
        run("sample", "--prior", prior, "--num", 3, "--out", out / "samples", "--top-k", 4)
        run("evaluate", "--run", vqvae, "--data", images, "--samples", out / "samples")
        # The run is resumed from its checkpoint.
        flags = ("--run.dir", out, "--run.name", "vqvae", "--data.path", images, "--optim.weight_ema", 0.9, *loss)
        run("train", *tiny_flags(), *SHARED, *flags, "--train.max_steps", 10)
    return {"calls": device.calls, "step": json.loads((vqvae / "status.json").read_text())["step"]}


@pytest.mark.parametrize(("codebook", "ssim_weight"), [("ema", 0.5), ("grad", 0.0)])
def test_all_commands_run_where_there_is_no_float64(tmp_path: Path, codebook: str, ssim_weight: float) -> None:
    write_image_set(tmp_path / "images")
    (result,) = on_ranks(pipeline, str(tmp_path), codebook, ssim_weight, ranks=1, timeout_s=200)
    assert result["step"] == 10
    calls = result["calls"]
    assert calls["aten::convolution_backward"] > 50, "training took place on the device"
    assert calls["aten::embedding"] > 10
    assert len(list((tmp_path / "samples").glob("sample-*.png"))) == 3
    assert json.loads((tmp_path / "prior.json").read_text())["metrics"]["bits_per_code"]["mean"] > 0


def refusals() -> dict[str, str]:
    """Do on the device what mps does not support; return the error of each attempt."""
    with StandIn.everywhere():
        here = torch.rand(3, 4, device=NAME)
        tried = {
            "a cast": here.double,
            "a move": lambda: torch.zeros(2, dtype=torch.float64).to(NAME),
            "a factory": lambda: torch.arange(3.0, dtype=torch.float64, device=NAME),
            "a mixture": lambda: here + torch.ones(4),
            "an operator": lambda: torch.ops.aten.mode(here),
        }
        answers = {}
        for name, work in tried.items():
            try:
                answers[name] = f"done: {work()}"
            except (TypeError, RuntimeError) as error:
                answers[name] = str(error)
        return answers | {"sum": (here * 2 - here - here).sum().item()}


def test_the_stand_in_refuses_what_mps_does() -> None:
    (answers,) = on_ranks(refusals, ranks=1)
    assert all("float64, which mps does not have" in answers[name] for name in ("a cast", "a move", "a factory"))
    assert "expected all tensors on one device" in answers["a mixture"]
    assert "aten::mode has no kernel on mps" in answers["an operator"]
    assert answers["sum"] == 0
    assert has_kernel("aten::convolution")
    assert not has_kernel("aten::segment_reduce")


def test_precision_and_ranks_only_where_they_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: (major, minor) <= (13, 3))
    assert [str(problem) for problem in precision_problems("fp16", "auto")] == [
        "train.precision: found fp16 without a CUDA device; expected fp32 or bf16"
    ]
    assert "bf16 on mps before macOS 14" in str(precision_problems("bf16", "mps")[0])
    assert precision_problems("bf16", "cpu") == precision_problems("fp32", "mps") == []
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: True)
    assert precision_problems("bf16", "auto") == []
