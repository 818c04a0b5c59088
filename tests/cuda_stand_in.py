"""A device with the manners of CUDA, for machines without a GPU; see device_stand_in.py.

It counts what makes a GPU wait: the times that the host waits for the device, and the operators, each of which is at
least one kernel launch. Operators that torch documents as not deterministic are refused in deterministic mode. A graph
repeats the captured operators on the captured memory, and its capture refuses waits and random numbers. The device does
not imitate: kernels, TF32, autocast to bf16, page-locked memory, streams and collective operations.

    with everywhere() as count: ...  # run.device auto is now this device
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import device_stand_in
import torch
from device_stand_in import Held, Limits, device_everywhere
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "cuda_stand_in"
# Operators that read a number from the device, for example to learn the size of their result.
READING = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave.Tensor",
    "aten::unique_dim",
}
# torch.use_deterministic_algorithms lists them.
NONDETERMINISTIC = {
    "aten::adaptive_avg_pool2d_backward",
    "aten::grid_sampler_2d_backward",
    "aten::histc",
    "aten::kthvalue",
    "aten::max_unpool2d",
    "aten::median.dim",
    "aten::put_",
    "aten::reflection_pad1d_backward",
    "aten::reflection_pad2d_backward",
    "aten::replication_pad2d_backward",
    "aten::scatter_reduce.two",
    "aten::upsample_bilinear2d_backward",
}
# Operators that launch nothing: allocations, and views that are not declared as such.
WITHOUT_LAUNCH = ("aten::empty", "aten::new_empty", "aten::_unsafe_view")
RANDOM = ("aten::rand", "aten::uniform", "aten::normal", "aten::exponential", "aten::multinomial", "aten::bernoulli")
REPLAY = "graph replay"  # the name of the event


class Count:
    """What happened on the device.

    Attributes:
        waits: operator -> times that the host waited for the device in it.
        operators: operator -> calls; views and allocations launch nothing and are left out.
        events: names of all of them, in order.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.waits: Counter[str] = Counter()
        self.operators: Counter[str] = Counter()
        self.events: list[str] = []


class CUDALimits(Limits):
    """Counts, and refuses operators that are not deterministic where only deterministic ones are allowed."""

    name = NAME

    def __init__(self) -> None:
        self.count = Count()

    def check(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        if torch.are_deterministic_algorithms_enabled() and name in NONDETERMINISTIC:
            raise RuntimeError(f"{name} does not have a deterministic implementation")

    def note(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        name = func.name()
        if waits_for_device(name, args, kwargs):
            self.count.waits[name] += 1
            self.count.events.append(f"wait: {name}")
        elif not func.is_view and not name.startswith(WITHOUT_LAUNCH):
            self.count.operators[name] += 1
            self.count.events.append(name)


@contextmanager
def everywhere() -> Iterator[Count]:
    """Make the device the default of this process. This cannot be undone, so call it in a separate process."""
    from torch.utils import _foreach_utils

    from vqdist.foundation import devices
    from vqdist.models import cuda_graphs

    limits = CUDALimits()
    devices.QUEUING_DEVICES = frozenset({NAME})
    _foreach_utils._foreach_supported_types.append(Held)
    cuda_graphs.CAPTURING_DEVICES = frozenset({NAME})
    torch.cuda.is_current_stream_capturing = lambda: False
    cuda_graphs.capture = lambda work: capture(work, limits.count)
    torch.Tensor.pin_memory = lambda tensor: tensor  # type: ignore[method-assign,assignment]
    with device_everywhere(limits):
        yield limits.count


def waits_for_device(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether the host waits for the device in an operator."""
    if name in READING:
        return True
    if name == "aten::_to_copy":
        device = kwargs.get("device")
        moved = device is not None and device_stand_in.on_device(device) != isinstance(args[0], Held)
        return moved and not kwargs.get("non_blocking", False)
    if name == "aten::copy_":
        non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        return isinstance(args[0], Held) != isinstance(args[1], Held) and not non_blocking
    if name in {"aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_"}:
        # Indices from the CPU are copied; a mask is converted to indices, whose number the host must know.
        indices = [leaf for leaf in tree_leaves(args[1]) if isinstance(leaf, torch.Tensor)]
        return any(not isinstance(index, Held) or index.dtype == torch.bool for index in indices)
    return False


class Recording(TorchDispatchMode):
    """Records the operators of a capture."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().startswith(RANDOM):
            raise RuntimeError(f"{func.name()} during a capture")
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        """Repeat the operators with the tensors of the capture, and write the results to those of the capture."""
        for func, args, kwargs, found in self.calls:
            if func.is_view or func.name().startswith(WITHOUT_LAUNCH):
                continue
            again = func(*tree_map(device_stand_in.unwrap, args), **tree_map(device_stand_in.unwrap, kwargs))
            for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                if isinstance(old, Held) and old.inner.data_ptr() != new.data_ptr():
                    old.inner.copy_(new)


def capture(work: Callable[[], None], count: Count) -> Callable[[], None]:
    """Stand in for `vqdist.models.cuda_graphs.capture`."""
    work()
    waits, recording = count.waits.total(), Recording()
    with recording:
        work()
    if count.waits.total() > waits:
        raise RuntimeError("the host waits for the device during a capture")

    def replay() -> None:
        count.operators[REPLAY] += 1
        count.events.append(REPLAY)
        recording.replay()

    return replay
