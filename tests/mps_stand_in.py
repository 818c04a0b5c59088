"""A device with the limits of mps, for machines without mps. Its tensors are in CPU memory.

Operators refuse to mix its tensors with those of the CPU. float64, complex128 and operators without an mps kernel are
refused. torch lists its kernels in native_functions.yaml.

    with StandIn.everywhere(): ...  # run.device auto is now this device
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import resources
from typing import Any

import torch
import yaml
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "mps_stand_in"
REFUSED = (torch.float64, torch.complex128)
# Operators that may mix devices: copies, and indices from the CPU.
MIXING = {"aten::copy_", "aten::_to_copy", "aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}
KERNELS = {"MPS", "CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}


class Held(Tensor):
    """A tensor on the device; `inner` is a CPU tensor with its values."""

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
            device=torch.device(NAME, 0),
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
        if not (on_device(kwargs.get("device")) or any(isinstance(leaf, Held) for leaf in tree_leaves((args, kwargs)))):
            return func(*args, **kwargs)
        self.calls[func.name()] = self.calls.get(func.name(), 0) + 1
        return call(func, args, kwargs)

    @classmethod
    @contextmanager
    def everywhere(cls) -> "Iterator[StandIn]":
        """Make the device the default of this process. This cannot be undone, so call it in a separate process."""
        from accelerate import PartialState

        _setup_privateuseone_for_python_backend(rename=NAME, backend_module=Module())
        # torch.tensor and new_tensor do not call dispatch modes.
        kernels = torch.library.Library("aten", "IMPL")
        for func in (
            torch.ops.aten.empty_strided.default,
            torch.ops.aten._to_copy.default,
            torch.ops.aten.copy_.default,
        ):
            kernels.impl(func, partial(call_from_kernel, func), "PrivateUse1")
        # Inference mode does not support views of wrapper subclasses.
        torch.inference_mode = torch.no_grad  # type: ignore[assignment,misc]
        PartialState(cpu=True).device = torch.device(NAME, 0)
        with cls() as mode:
            yield mode


class Module(_DummyBackendModule):
    """The device module that torch requires as torch.NAME."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def set_device(self, _: Any) -> None:
        pass


def call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operator with tensors on the device; raise an error where mps does."""
    name = func.name()
    leaves = tree_leaves((args, kwargs))
    if not has_kernel(name):
        raise NotImplementedError(f"{name} has no kernel on mps")
    foreign = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, Held) and leaf.ndim > 0]
    if foreign and name not in MIXING and any(isinstance(leaf, Held) for leaf in leaves):
        raise RuntimeError(f"{name}: expected all tensors on one device, found a {foreign[0].device} tensor too")
    refuse_types(kwargs.get("dtype"), f"{name} into")
    for leaf in leaves:
        refuse_types(leaf if isinstance(leaf, torch.dtype) else None, f"{name} into")
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
    return device is not None and torch.device(device).type == NAME


def refuse_types(dtype: torch.dtype | None, what: str) -> None:
    if dtype in REFUSED:
        raise TypeError(f"{what} {dtype}, which mps does not have")


@cache
def has_kernel(name: str) -> bool:
    """Tell whether torch has an mps kernel for an operator, or composes it of other operators."""
    operators = read_operators()
    entry = operators.get(name.removeprefix("aten::"))
    if entry is None:
        return not name.startswith("aten::")
    entry = operators.get(entry.get("structured_delegate"), entry)
    dispatch = entry.get("dispatch")
    # An operator without dispatch entry is composed of others, as are generated in-place and out= variants.
    return dispatch is None or any(KERNELS & set(key.replace(" ", "").split(",")) for key in dispatch)


@cache
def read_operators() -> dict[str, dict[str, Any]]:
    """Return torch's operators: name with overload -> its declaration in the source."""
    text = (resources.files("torchgen") / "packaged/ATen/native/native_functions.yaml").read_text()
    return {entry["func"].split("(")[0]: entry for entry in yaml.load(text, Loader=yaml.CSafeLoader)}
