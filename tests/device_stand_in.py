"""A device whose tensors are in CPU memory, for machines without that device. It refuses what the device refuses.

Operators refuse to mix its tensors with those of the CPU. `Limits` describes the device; mps_stand_in.py and
cuda_stand_in.py each have one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

# Operators that may mix devices: copies, and indices from the CPU.
MIXING = {"aten::copy_", "aten::_to_copy", "aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}


class Limits:
    """What a device refuses, and what it notes of each operator.

    Attributes:
        name: of the device in torch.
        refused_types: types of tensors that the device does not have.
    """

    name = "cpu"
    refused_types: tuple[torch.dtype, ...] = ()

    def check(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        """Raise the error of the device if it has no such operator."""

    def note(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Take note of an operator that is called with a tensor on the device, or creates one."""


class Held(Tensor):
    """A tensor on the device; `inner` is a CPU tensor with its values."""

    limits: ClassVar[Limits] = Limits()
    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Held":
        refuse_types(inner.dtype, "a tensor of")
        held = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(cls.limits.name, 0),
        )
        held.inner = inner
        return held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, kwargs or {})

    __torch_function__ = torch._C._disabled_torch_function_impl

    def tolist(self) -> Any:
        """Return the values; torch does not support it for subclasses of Tensor."""
        return self.cpu().tolist()


class StandIn(TorchDispatchMode):
    """Intercepts every operator that is called with a tensor on the device or that creates one.

    Attributes:
        calls: number of calls of each operator, which shows that commands used the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not (on_device(kwargs.get("device")) or any_held(tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        self.calls[func.name()] = self.calls.get(func.name(), 0) + 1
        return call(func, args, kwargs)


@contextmanager
def device_everywhere(limits: Limits) -> Iterator[StandIn]:
    """Make the device the default of this process. This cannot be undone, so call it in a separate process."""
    from accelerate import PartialState

    Held.limits = limits
    _setup_privateuseone_for_python_backend(rename=limits.name, backend_module=Module())
    # torch.tensor and new_tensor do not call dispatch modes.
    kernels = torch.library.Library("aten", "IMPL")
    for func in (
        torch.ops.aten.empty_strided.default,
        torch.ops.aten._to_copy.default,
        torch.ops.aten.copy_.default,
    ):
        kernels.impl(func, partial(call_from_kernel, func), "PrivateUse1")
    # Otherwise Module.to(memory_format=...) would change the strides of a parameter but not those of `inner`.
    torch.__future__.set_swap_module_params_on_conversion(True)
    # Inference mode does not support views of wrapper subclasses.
    torch.inference_mode = torch.no_grad  # type: ignore[assignment,misc]
    PartialState(cpu=True).device = torch.device(limits.name, 0)
    with StandIn() as mode:
        yield mode


class Module(_DummyBackendModule):
    """The device module that torch requires as torch.NAME."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def set_device(self, _: Any) -> None:
        pass


def call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operator with tensors on the device; raise an error where the device does."""
    name = func.name()
    leaves = tree_leaves((args, kwargs))
    Held.limits.check(name, args, kwargs)
    foreign = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, Held) and leaf.ndim > 0]
    if foreign and name not in MIXING and any_held(leaves):
        raise RuntimeError(f"{name}: expected all tensors on one device, found a {foreign[0].device} tensor too")
    refuse_types(kwargs.get("dtype"), f"{name} into")
    for leaf in leaves:
        refuse_types(leaf if isinstance(leaf, torch.dtype) else None, f"{name} into")
    Held.limits.note(func, args, kwargs)
    device = kwargs.get("device")
    inner_kwargs = {**kwargs, "device": torch.device("cpu")} if device is not None else kwargs
    found = func(*tree_map(unwrap, args), **tree_map(unwrap, inner_kwargs))
    leaves_device = device is not None and not on_device(device)
    written = args[0] if name == "aten::copy_" else None
    if leaves_device or (isinstance(written, Tensor) and not isinstance(written, Held)):
        return written if written is not None else found
    wrapped = tree_map(lambda leaf: Held(leaf) if isinstance(leaf, Tensor) else leaf, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if any_held(leaves) else wrapped


def call_from_kernel(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an operator for which torch requires a kernel of the device."""
    return call(func, args, kwargs)


def any_held(leaves: list[Any]) -> bool:
    return any(isinstance(leaf, Held) for leaf in leaves)


def unwrap(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, Held) else leaf


def on_device(device: Any) -> bool:
    return device is not None and torch.device(device).type == Held.limits.name


def refuse_types(dtype: torch.dtype | None, what: str) -> None:
    if dtype in Held.limits.refused_types:
        raise TypeError(f"{what} {dtype}, which {Held.limits.name.removesuffix('_stand_in')} does not have")
