"""Which precisions a device takes, and which cost it time."""

import platform

import pytest
import torch

from vqdist.training.precision import find_slow_precision, has_fast_bf16

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


def test_nothing_is_said_of_what_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr("vqdist.training.precision.has_fast_bf16", lambda device: False)
    assert find_slow_precision("bf16", CPU) is None
    assert find_slow_precision("bf16", torch.device("mps")) is None
    assert "this GPU has no instructions" in str(find_slow_precision("bf16", torch.device("cuda")))
