"""Being asked to stop: signals, a STOP file, a launcher that is gone. Each is a wish for the ranks to agree on."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vqdist.foundation.progress import print_from_any_rank

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
SAME_KEY_PRESS_S = 1.0
LAUNCHER_POLL_S = 1.0
ORPHAN_GRACE_S = 8.0


class StopRequest:
    """What this rank knows of a wish to stop; the ranks agree on it once a step."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._first_interrupt = 0.0

    def ask(self, reason: str) -> None:
        self.reason = self.reason or reason

    def on_signal(self, number: int) -> None:
        """Note a signal; a second Ctrl-C ends the process."""
        if number == signal.SIGINT:
            now = time.monotonic()
            # A launcher passes the terminal's Ctrl-C on: two within a second are one key press.
            if self._first_interrupt and now - self._first_interrupt > SAME_KEY_PRESS_S:
                os._exit(1)
            self._first_interrupt = self._first_interrupt or now
        self.ask(signal.Signals(number).name)

    def check_file(self, run_dir: Path) -> None:
        """Honour RUN/STOP; rank 0 alone looks."""
        if (run_dir / "STOP").exists():
            self.ask("STOP file")


@contextmanager
def listen_for_stops() -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1 and Ctrl-C into a wish to stop for as long as the block runs. For the main thread."""
    request = StopRequest()
    stop_hearing = _hear_signals(request)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    watch = _watch_launcher(request) if has_launcher() else None
    try:
        yield request
    finally:
        if watch is not None:
            watch.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        # Launchers and preemption send more than one: what comes after the checkpoint changes nothing.
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN if request.reason else before[number])
        stop_hearing()


def _hear_signals(request: StopRequest) -> Callable[[], None]:
    """Note signals in a thread: Python's own handlers wait while the main thread waits for other ranks."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    heard_before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def hear() -> None:
        while numbers := os.read(reader, 64):
            for number in numbers:
                if number in SIGNALS:
                    request.on_signal(number)
        os.close(reader)

    def stop_hearing() -> None:
        signal.set_wakeup_fd(heard_before)
        os.close(writer)

    threading.Thread(target=hear, name="signals", daemon=True).start()
    return stop_hearing


def has_launcher(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the parent is a launcher on this machine, whose end means the end of this process."""
    return "TORCHELASTIC_RUN_ID" in environ or "ACCELERATE_MIXED_PRECISION" in environ


def _watch_launcher(request: StopRequest) -> threading.Event:
    """Ask for a stop when the parent dies, and end the process if it cannot stop by itself in time."""
    done = threading.Event()
    parent = os.getppid()

    def watch() -> None:
        while not done.wait(LAUNCHER_POLL_S):
            if os.getppid() != parent:
                request.ask("the launcher is gone")
                if not done.wait(ORPHAN_GRACE_S):
                    print_from_any_rank("the launcher is gone and the other ranks do not answer: ending")
                    os._exit(1)
                return

    threading.Thread(target=watch, name="launcher-watch", daemon=True).start()
    return done
