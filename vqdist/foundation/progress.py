"""ProgressBar of long work on stderr: a bar on a terminal, now and then a line in a log; from rank 0 only.

for piece in progress(pieces, total=len(pieces), unit="slices", label="shard"):
    ...
"""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from tqdm import tqdm
from tqdm.utils import disp_len, disp_trim

from vqdist.foundation.launcher_environment import read_rank

T = TypeVar("T")

# A log gets its first line after this time; later the lines stand a tenth of the work's age apart.
FIRST_LINE_S = 10.0
# A narrow window loses the items at the end: the time left and the note matter more than the rate, all of them more
# than the bar.
NARROW_COLUMNS = 100
NARROW_FORMAT = "{desc} {percentage:3.0f}%, {n_fmt}/{total_fmt}, {remaining} left{postfix}"
BAR_FORMAT = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}, {remaining} left, {rate_noinv_fmt}"
COUNT_FORMAT = "{desc} {n_fmt}{unit}{postfix}, {elapsed}, {rate_noinv_fmt}"


class QuietBar(tqdm):
    """A tqdm bar without tqdm's monitor thread, which would live on in forked loader workers."""

    monitor_interval = 0

    @staticmethod
    def format_meter(n: float, total: float, elapsed: float, ncols: int | None = None, **options: Any) -> str:
        """Return the text of the bar, without the items that the window has no room for."""
        text: str = tqdm.format_meter(n, total, elapsed, **options)
        if not ncols:
            return text
        if options.get("bar_format") == BAR_FORMAT:
            if ncols >= NARROW_COLUMNS and disp_len(text) <= ncols:  # with a short bar: there is room for a longer one
                return str(tqdm.format_meter(n, total, elapsed, ncols=ncols, **options))
            text = tqdm.format_meter(n, total, elapsed, **options | {"bar_format": NARROW_FORMAT})
        return fit(text, ncols)


def fit(text: str, columns: int) -> str:
    """Return a line of items without the last ones that do not fit: half a number would be a wrong one."""
    while disp_len(text) > columns and ", " in text:
        text = text.rpartition(", ")[0]
    return str(disp_trim(text, columns))


# tqdm's own lock spans processes, by a semaphore and a process that watches over it; one process draws here.
QuietBar.set_lock(threading.RLock())


def is_first_rank() -> bool:
    """Tell whether this process is rank 0 of its launch, or alone."""
    return read_rank() == 0


def has_terminal(stream: TextIO | None = None) -> bool:
    """Tell whether a bar can be drawn on the stream (stderr by default)."""
    stream = stream or sys.stderr
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def print_message(text: str) -> None:
    """Write one message to stderr, from rank 0 only, above a bar if one is drawn."""
    if is_first_rank():
        write_line(text)


def write_line(text: str) -> None:
    """Write one message to stderr, above a bar if one is drawn; a log on a full disk is no reason to end."""
    with suppress(OSError):
        if QuietBar._instances:
            QuietBar.write(text, file=sys.stderr)
            return
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def count_noun(number: int, noun: str) -> str:
    """Return a number and what it counts: 1 file, 2 files."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def format_duration(seconds: float) -> str:
    """Return a time as people say it: `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_rate(rate: float) -> str:
    """Return a rate with three figures, and no decimals from 100 on."""
    if rate >= 100:
        return f"{rate:,.0f}"
    return f"{rate:.3g}"


class ProgressBar:
    """A count that grows towards a total, shown as a bar or as lines; a context manager.

    Args:
        total: how much there is to do, in `unit`; None where nobody knows.
        unit: what is counted, in the plural, for example "slices".
        label: what the work is, for example "encode".
        initial: how much was done before, by an earlier start; it counts for the share, not for the rate.
        shown: False hides everything; by default only rank 0 shows.
    """

    def __init__(
        self, total: int | None, *, unit: str, label: str, initial: int = 0, shown: bool | None = None
    ) -> None:
        self.total, self.unit, self.label, self.initial, self.done = total, unit, label, initial, initial
        self.note = ""
        self.shown = is_first_rank() if shown is None else shown
        self._started_s = self._last_line_s = time.monotonic()
        self._bar = self._build_bar() if self.shown and has_terminal() else None

    def _build_bar(self) -> QuietBar:
        return QuietBar(
            total=self.total,
            initial=self.initial,
            desc=self.label,
            unit=" " + self.unit,
            file=sys.stderr,
            dynamic_ncols=True,
            mininterval=0.2,
            miniters=1,
            leave=False,
            bar_format=COUNT_FORMAT if self.total is None else BAR_FORMAT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(complete=kind is None)

    def advance(self, count: int = 1) -> None:
        """Count some more work as done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self.shown:
            self._write_line_if_due()

    def annotate(self, note: str) -> None:
        """Show a short text beside the count from now on, for example a loss."""
        self.note = note
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)

    def close(self, *, complete: bool = True) -> None:
        """Remove the bar and, if the work ended well, leave one line that tells count, time and rate."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self.shown and complete:
            self.shown = False
            print_message(self.describe(ended=True))
        self.shown = False

    def _write_line_if_due(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_line_s < max(FIRST_LINE_S, 0.1 * (now_s - self._started_s)):
            return
        self._last_line_s = now_s
        print_message(self.describe())

    def describe(self, *, ended: bool = False) -> str:
        """Return the state of the work as one line of text."""
        elapsed_s = time.monotonic() - self._started_s
        rate = (self.done - self.initial) / max(elapsed_s, 1e-9)
        parts = [f"{self.label}: {self.done:,}"]
        if self.total is not None and not (ended and self.done == self.total):
            parts[0] += f" of {self.total:,} {self.unit} ({self.done / max(self.total, 1):.0%})"
        else:
            parts[0] += f" {self.unit}"
        if ended:
            parts.append(f"in {format_duration(elapsed_s)}")
        parts.append(f"{format_rate(rate)} {self.unit}/s")
        if not ended and self.total is not None and rate > 0:
            parts.append(f"{format_duration((self.total - self.done) / rate)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


def progress(iterable: Iterable[T], *, total: int | None = None, unit: str, label: str) -> Iterator[T]:
    """Yield the items of an iterable and show on stderr how far the work is.

    Args:
        iterable: the items; read one at a time.
        total: their number; None asks the iterable for its length, and shows a plain count where it has none.
        unit: what the items are, in the plural, for example "slices".
        label: what is done with them, for example "shard".
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with ProgressBar(total, unit=unit, label=label) as shown:
        for item in iterable:
            yield item
            shown.advance()
