"""Requests to stop a run early: signals, a STOP file, a launcher that has exited."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from vqdist.foundation.launcher_environment import read_rank
from vqdist.foundation.progress import print_from_any_rank

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
DUPLICATE_INTERRUPT_S = 1.0
LAUNCHER_POLL_S = 1.0
ORPHAN_TIMEOUT_S = 8.0
ENDED_AT_ONCE = (
    b"interrupted again: no checkpoint written; the same command continues from the last one, or from step 0\n"
)


class StopRequest:
    """A request to stop, as seen by this rank. The ranks agree on it once per step.

    Attributes:
        reason: the first reason to stop; None without a request.
    """

    def __init__(self) -> None:
        self.reason: str | None = None
        self._first_interrupt_s = 0.0

    def request(self, reason: str) -> None:
        self.reason = self.reason or reason

    def on_signal(self, number: int) -> None:
        """Request a stop; a second Ctrl-C ends the process immediately."""
        if number == signal.SIGINT:
            now = time.monotonic()
            # A launcher forwards the Ctrl-C that the terminal also sends: two within a second are one key press.
            if self._first_interrupt_s and now - self._first_interrupt_s > DUPLICATE_INTERRUPT_S:
                if read_rank() == 0:
                    with suppress(OSError):
                        os.write(2, ENDED_AT_ONCE)  # not through sys.stderr, whose lock the main thread may hold
                os._exit(1)
            self._first_interrupt_s = self._first_interrupt_s or now
        self.request(signal.Signals(number).name)

    def check_file(self, stop_file: Path) -> None:
        """Request a stop if the STOP file of the run exists. For rank 0."""
        if stop_file.exists():
            self.request("STOP file")


@contextmanager
def handling_stop_requests() -> Iterator[StopRequest]:
    """Convert SIGTERM, SIGUSR1, Ctrl-C and the exit of the launcher to stop requests. Call it in the main thread."""
    request = StopRequest()
    stop_reading = _read_signals(request)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    launcher_watch = _watch_launcher(request) if has_launcher() else None
    try:
        yield request
    finally:
        if launcher_watch is not None:
            launcher_watch.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        # Launchers and preemption send several signals. Those that arrive after the checkpoint must not change the
        # exit code.
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN if request.reason else before[number])
        stop_reading()


def _read_signals(request: StopRequest) -> Callable[[], None]:
    """Receive signals in a thread, as Python handlers do not run while the main thread waits for other ranks.

    Returns:
        A function that ends the thread.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def read() -> None:
        while numbers := os.read(reader, 64):
            for number in numbers:
                if number in SIGNALS:
                    request.on_signal(number)
        os.close(reader)

    def stop_reading() -> None:
        signal.set_wakeup_fd(wakeup_before)
        os.close(writer)

    threading.Thread(target=read, name="signals", daemon=True).start()
    return stop_reading


def has_launcher(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the parent process is a launcher on this machine, without which this process must not continue."""
    return "TORCHELASTIC_RUN_ID" in environ or "ACCELERATE_MIXED_PRECISION" in environ


def _watch_launcher(request: StopRequest) -> threading.Event:
    """Request a stop when the parent process exits; exit if training does not stop within ORPHAN_TIMEOUT_S.

    Returns:
        An event that ends the watch when set.
    """
    done = threading.Event()
    parent = os.getppid()

    def watch() -> None:
        while not done.wait(LAUNCHER_POLL_S):
            if os.getppid() != parent:
                request.request("the launcher has exited")
                if not done.wait(ORPHAN_TIMEOUT_S):
                    print_from_any_rank("the launcher has exited and the other ranks do not respond: exiting")
                    os._exit(1)
                return

    threading.Thread(target=watch, name="launcher-watch", daemon=True).start()
    return done
