"""Every command on a device with the manners of CUDA: no mixed devices, one wait a step, few operators.

Without a GPU this proves the order of events on the host only, neither kernels nor times.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cuda_stand_in
import pytest
import torch
from cuda_stand_in import NAME, Count
from support import on_ranks, tiny_flags, write_code_set, write_image_set
from test_mps import refuse_collectives, run

STEPS = 6
QUIET = ("--tracking.mode", "disabled", "--train.preview_every", "null", "--train.log_every", 100)
# The recommended configurations with all their layers, but narrow.
RECOMMENDED = {
    "vqvae": {
        "--config": "vqvae_oasis",
        "--model.hidden": 16,
        "--model.residual_hidden": 8,
        "--model.num_codes": 16,
        "--model.restart_every": 4,
        "--data.crop": 24,
        "--data.global_batch_size": 8,
    },
    "pixelcnn": {"--config": "pixelcnn_oasis", "--model.hidden": 16},
}


def record_steps(count: Count) -> list[list[str]]:
    """Let the training loop record the events of each step; return the list that receives them."""
    from vqdist.training import loop

    train_step, steps = loop.train_step, []

    def record(*arguments: Any, **keys: Any) -> Any:
        count.reset()
        result = train_step(*arguments, **keys)
        steps.append(list(count.events))
        return result

    loop.train_step = record
    return steps


def train_recommended(task: str, folder: str, *flags: str) -> list[list[str]]:
    """Train a narrow form of a recommended configuration; return the events of each step."""
    refuse_collectives()
    out = Path(folder)
    where = ("--data.path", out / "data", "--run.dir", out / "runs", "--run.name", task, "--data.num_workers", 0)
    length = ("--train.max_steps", STEPS, "--train.precision", "fp32")
    recommended = (word for pair in RECOMMENDED[task].items() for word in pair)
    with cuda_stand_in.everywhere() as count:
        steps = record_steps(count)
        run("train", *recommended, *QUIET, *where, *length, *flags)
    return steps


def list_waits(events: list[str]) -> list[int]:
    """Return the places of the host's waits."""
    return [number for number, event in enumerate(events) if event.startswith("wait: ")]


@pytest.mark.parametrize(
    ("task", "flags", "most_operators"),
    [
        ("vqvae", (), 580),
        ("vqvae", ("--model.codebook", "grad", "--optim.name", "adam", "--optim.weight_ema", "0.9"), 420),
        ("pixelcnn", (), 765),
    ],
    ids=["vqvae", "gradient and adam", "pixelcnn"],
)
def test_a_step_waits_once_and_launches_little(
    task: str, flags: tuple[str, ...], most_operators: int, tmp_path: Path
) -> None:
    write: Callable[[Path], Path] = write_image_set if task == "vqvae" else write_code_set
    write(tmp_path / "data")
    (steps,) = on_ranks(train_recommended, task, str(tmp_path), *flags, ranks=1, timeout_s=250)
    assert len(steps) == STEPS
    for number, events in enumerate(steps[1:], 2):  # the first step also builds the optimizer's state
        (wait,) = list_waits(events)
        updates = [place for place, event in enumerate(events) if event == "aten::_fused_adamw_"]
        assert updates
        assert updates[-1] < wait, "the optimizer is queued before the host waits"
        copies = [place for place, event in enumerate(events) if event == "aten::_to_copy" and place > updates[-1]]
        if number < STEPS:
            assert len([place for place in copies if place < wait]) >= 5, "so is the copy of the next batch"
        assert len(events) - 1 <= most_operators, f"step {number}"


def pipeline(folder: str) -> dict[str, Any]:
    """Train, resume, encode, sample and evaluate in deterministic mode; return the operators that were called."""
    refuse_collectives()
    out = Path(folder)
    images, codes, vqvae, prior = out / "images", out / "codes", out / "vqvae", out / "prior"
    shared = ("--run.deterministic", "true", "--train.max_steps", 8, "--train.preview_every", 8, *QUIET[:2])
    with cuda_stand_in.everywhere() as count:
        for task, data, name in (("vqvae", images, "vqvae"), ("pixelcnn", codes, "prior")):
            own = ("--model.ssim_weight", 0.5, "--model.restart_every", 4) if task == "vqvae" else ()
            flags = (*tiny_flags(task), *shared, *own, "--run.dir", out, "--run.name", name, "--data.path", data)
            run("train", *flags, "--optim.name", "muon", "--optim.weight_ema", 0.9)
            run("train", *flags, "--optim.name", "muon", "--optim.weight_ema", 0.9, "--train.max_steps", 10)
            run("evaluate", "--run", out / name, "--data", data, "--out", out / f"{name}.json", "--figures", "null")
            if task == "vqvae":
                run("encode", "--run", vqvae, "--data", images, "--out", codes)
        run("sample", "--prior", prior, "--num", 3, "--out", out / "samples", "--top-k", 4)
    return {"deterministic": torch.are_deterministic_algorithms_enabled(), "operators": dict(count.operators)}


def test_all_commands_run_on_the_device(tmp_path: Path) -> None:
    write_image_set(tmp_path / "images")
    (result,) = on_ranks(pipeline, str(tmp_path), ranks=1, timeout_s=250)
    assert result["deterministic"]
    assert result["operators"]["aten::_fused_adamw_"] >= 20
    for name in ("vqvae", "prior"):
        assert json.loads((tmp_path / name / "status.json").read_text())["step"] == 10
    assert json.loads((tmp_path / "prior.json").read_text())["metrics"]["bits_per_code"]["mean"] > 0
    assert len(list((tmp_path / "samples").glob("sample-*.png"))) == 3


def measure_dissimilarity() -> dict[str, Any]:
    """Return the number of groups of each convolution of the SSIM loss of few planes, and the errors of the loss."""
    from vqdist.models.ssim_loss import dissimilarity

    groups: list[int] = []
    note = cuda_stand_in.CUDALimits.note

    def keep_groups(limits: Any, func: Any, args: Any, kwargs: Any) -> None:
        if func.name() == "aten::convolution":
            groups.append(args[8])
            assert args[0].is_contiguous(), "cuDNN computes depthwise convolutions in other layouts"
        note(limits, func, args, kwargs)

    cuda_stand_in.CUDALimits.note = keep_groups
    errors = []
    with cuda_stand_in.everywhere():
        for shape in ((1, 1, 16, 20), (1, 3, 12, 12), (2, 1, 11, 30)):
            images, recon = torch.rand(shape), torch.rand(shape)
            found = {}
            for device in ("cpu", NAME):
                pixels = (
                    recon.detach().clone().to(device).contiguous(memory_format=torch.channels_last).requires_grad_()
                )
                loss = dissimilarity(images.to(device), pixels)
                loss.sum().backward()
                found[device] = torch.cat([loss.detach().cpu(), pixels.grad.cpu().flatten()])
            errors.append((found["cpu"] - found[NAME]).abs().max().item())
    return {"groups": groups, "errors": errors}


def test_ssim_is_never_an_ordinary_convolution() -> None:
    """cuDNN may compute ordinary convolutions in TF32, but not depthwise ones."""
    (found,) = on_ranks(measure_dissimilarity, ranks=1)
    assert len(found["groups"]) == 3 * 4
    assert min(found["groups"]) >= 2
    assert max(found["errors"]) < 1e-6


def try_device() -> dict[str, Any]:
    """Do what CUDA refuses, and what makes the host wait."""
    with cuda_stand_in.everywhere() as count:
        here = torch.rand(4, device=NAME)
        refused = {}
        torch.use_deterministic_algorithms(True)
        for name, work in {"mixture": lambda: here + torch.ones(4), "median": lambda: here.median(0)}.items():
            try:
                work()
            except RuntimeError as error:
                refused[name] = str(error)
        waits = {}
        for name, work in {
            "item": lambda: here.sum().item(),
            "list": here.tolist,
            "condition": lambda: bool(here.sum() > 0),
            "to the CPU": here.cpu,
            "new tensor": lambda: torch.tensor([1.0, 2.0], device=NAME),
            "copy": lambda: torch.ones(3).to(NAME),
            "mask": lambda: here[here > 0.5],
            "queued copy": lambda: torch.ones(3).to(NAME, non_blocking=True),
            "arithmetic": lambda: (here * 2 + 1).softmax(0),
        }.items():
            count.reset()
            work()
            waits[name] = sum(count.waits.values())
    return {"refused": refused, "waits": waits}


def test_the_stand_in_refuses_and_waits_as_cuda_does() -> None:
    (found,) = on_ranks(try_device, ranks=1)
    assert "expected all tensors on one device" in found["refused"]["mixture"]
    assert "deterministic" in found["refused"]["median"]
    free = {"queued copy", "arithmetic"}
    assert found["waits"] == {name: int(name not in free) for name in found["waits"]}
