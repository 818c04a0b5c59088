"""CUDA graphs: a GPU replays many small kernels as one launch, where launching each would take longer than its work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

CAPTURING_DEVICES = frozenset({"cuda"})


def can_capture(device: torch.device) -> bool:
    """Return whether a graph of work on a device can be captured: not on CPUs and mps, nor inside another capture."""
    return device.type in CAPTURING_DEVICES and not torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True)
class GraphedRow:
    """The captured work of sampling one row of code maps; the same for every row.

    Attributes:
        noise: (B, w, K), from which the graph reads.
        codes: (w, B) int64, to which the graph writes.
        replay: queues the graph.
    """

    noise: Tensor
    codes: Tensor
    replay: Callable[[], None]

    @classmethod
    def capture(cls, work: Callable[[Tensor, Tensor], None], noise: Tensor, codes: Tensor) -> Self:
        """Capture `work(noise, codes)`, which is called twice.

        Args:
            work: it must read and write the same memory at each call, wait for nothing, and draw no random numbers.
            noise, codes: values of the shapes of a row; their memory becomes that of the graph.
        """
        return cls(noise, codes, capture(lambda: work(noise, codes)))

    def run(self, noise: Tensor, codes: Tensor) -> None:
        """Do the work on the noise of a row, (B, w, K), and write the codes, (w, B)."""
        self.noise.copy_(noise)
        self.replay()
        codes.copy_(self.codes)


def capture(work: Callable[[], None]) -> Callable[[], None]:
    """Return a function that queues the kernels of `work`, with the memory and the numbers of the captured call.

    The work is called once to warm up, because libraries allocate workspaces at their first call, and once to be
    captured.
    """
    current = torch.cuda.current_stream()
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(current)
    with torch.cuda.stream(warm_up):
        work()
    current.wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    # Other threads, for example those that pin batches, may use the device during the capture.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay
