"""The micro-batches of one step after the other. Those of the next step are copied to a GPU while a step runs."""

import time
from collections.abc import Callable, Iterator

import torch

from vqdist.data.loading.batch import Batch
from vqdist.foundation.devices import CopyStream, queues_work


class StepFeed:
    """Hands out the micro-batches of each step.

    Args:
        steps: the micro-batches of each step, on the CPU.
        device: where they are used.
        record_wait: called with the seconds that the host spent on loading.
    """

    def __init__(
        self, steps: Iterator[list[Batch]], device: torch.device, record_wait: Callable[[float], None]
    ) -> None:
        self._steps, self._device, self._record_wait = steps, device, record_wait
        self._stream = CopyStream(device)
        self._next: list[Batch] | Exception | None = None

    def take(self) -> list[Batch]:
        """Return the micro-batches of the next step; those that `prefetch` loaded are on the device.

        Raises:
            VqdistError: as the iterator of the steps; also an error that `prefetch` met.
        """
        prefetched, self._next = self._next, None
        if prefetched is None:
            return self._load()
        if isinstance(prefetched, Exception):
            raise prefetched
        self._stream.join(tensor for batch in prefetched for tensor in batch.tensors())
        return prefetched

    def prefetch(self) -> None:
        """Load the micro-batches of the next step and queue their copies, if the device works while the host does.

        An error is raised by `take`, because the current step is not complete yet.
        """
        if not queues_work(self._device) or self._next is not None:
            return
        try:
            micro_batches = self._load()
            with self._stream.active():
                self._next = [batch.to(self._device) for batch in micro_batches]
        except Exception as error:  # noqa: BLE001 (raised by take)
            self._next = error

    def _load(self) -> list[Batch]:
        before_s = time.perf_counter()
        micro_batches = next(self._steps)
        self._record_wait(time.perf_counter() - before_s)
        return micro_batches
