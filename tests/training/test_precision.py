"""Precisions that a device supports, and those that are slow on it."""

import platform

import pytest
import torch

from vqdist.training.precision import choose_precision, find_slow_precision, has_fast_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_tile"])
def test_bf16_is_slow_only_where_a_cpu_lacks_it(monkeypatch: pytest.MonkeyPatch, instructions: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: False)
    assert not has_fast_bf16(CPU)
    assert "bf16, for which this CPU has no instructions" in str(find_slow_precision("bf16", CPU))
    assert find_slow_precision("fp32", CPU) is None
    monkeypatch.setattr(torch.cpu, f"_is_{instructions}_supported", lambda: True)
    assert has_fast_bf16(CPU)
    assert find_slow_precision("bf16", CPU) is None


@pytest.mark.parametrize(("cuda", "mps", "fast"), [(True, False, True), (False, False, True), (False, True, False)])
def test_auto_is_bf16_where_the_device_computes_it_fast(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, fast: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(
        "vqdist.training.precision.has_fast_bf16",
        lambda device: asked.append(device.type) or device.type in fast_devices,
    )
    fast_devices = {"cuda", "cpu"}
    assert choose_precision("auto") == ("bf16" if fast else "fp32")
    assert choose_precision("cpu") == "bf16"
    fast_devices = set()
    assert choose_precision("auto") == choose_precision("cpu") == "fp32"
    assert set(asked) == ({"cpu", "cuda"} if cuda else {"cpu"})


def test_no_notice_where_torch_cannot_detect_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr("vqdist.training.precision.has_fast_bf16", lambda device: False)
    assert find_slow_precision("bf16", CPU) is None
    assert find_slow_precision("bf16", torch.device("mps")) is None
    assert "this GPU has no instructions" in str(find_slow_precision("bf16", torch.device("cuda")))
