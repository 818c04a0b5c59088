"""Messages and progress on stderr: a bar on a terminal, lines at growing intervals in a log; from rank 0 only.

for file in progress(files, unit="slices", label="shard"):
    ...
"""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from vqdist.foundation.launcher_environment import read_rank
from vqdist.foundation.printable_text import printable

T = TypeVar("T")

FIRST_LINE_S = 2.0  # before the first line of a log
NEXT_LINE_S = 10.0  # before each later line, or a tenth of the elapsed time if that is longer
STEADY_S = 5.0  # of work after the first item, before the time left is shown: the first item often includes a start
REDRAW_S = 0.2
MIN_BAR_COLUMNS = 16  # with its borders


class _Bar(tqdm):
    monitor_interval = 0  # no monitor thread: forked loader workers would inherit it


_drawn: list["ProgressBar"] = []  # the bar that is on the terminal, if any


def print_message(text: str) -> None:
    """Write a message to stderr, from rank 0 only, above the bar if one is drawn."""
    if read_rank() == 0:
        print_from_any_rank(text)


def print_from_any_rank(text: str) -> None:
    """Write a message to stderr, above the bar if one is drawn. A full disk behind stderr is ignored."""
    text = printable(text)
    with suppress(OSError):
        if _drawn:
            _drawn[-1].write_above(text)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


class ProgressBar:
    """A count that grows to a total; a context manager.

    Args:
        total: amount of work in `unit`; None if unknown.
        unit: what is counted, in the plural, for example "slices".
        label: name of the work, for example "encode".
        initial: work done by earlier attempts; counts for the share done but not for the rate.
        shown: False hides everything; by default rank 0 shows.
    """

    def __init__(
        self, total: int | None, *, unit: str, label: str, initial: int = 0, shown: bool | None = None
    ) -> None:
        self.total, self.unit, self.label, self.initial, self.done = total, unit, label, initial, initial
        self.note = ""
        self.shown = read_rank() == 0 if shown is None else shown
        self.lines = 0  # written to a log so far
        self._started_s = self._last_shown_s = time.monotonic()
        self._steady: tuple[float, int] | None = None  # time and count when the first item was done
        self._bar: _Bar | None = None
        if self.shown and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._bar = _Bar(total=total, file=sys.stderr, dynamic_ncols=True, leave=False, bar_format=self._layout())
            _drawn.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(complete=kind is None)

    def advance(self, count: int = 1) -> None:
        """Add finished work; a negative count takes work back."""
        self.done += count
        now_s = time.monotonic()
        if self._steady is None or count < 0:
            self._steady = now_s, self.done
        if self._bar is not None and now_s - self._last_shown_s >= REDRAW_S:
            self._last_shown_s = now_s
            self._update_bar()
            self._bar.refresh()
        pause_s = max(NEXT_LINE_S, 0.1 * (now_s - self._started_s)) if self.lines else FIRST_LINE_S
        if now_s >= self._last_shown_s + pause_s:
            self.write_line()

    def write_line(self) -> None:
        """Write the state of the work to a log, whether or not a line is due; a bar on a terminal shows it anyway."""
        if self._bar is None and self.shown:
            self._last_shown_s = time.monotonic()
            self.lines += 1
            print_message(self.describe())

    def write_above(self, text: str) -> None:
        """Write a line of text above the bar."""
        assert self._bar is not None, "only a drawn bar is registered"
        self._update_bar()
        self._bar.write(text, file=sys.stderr)

    def _update_bar(self) -> None:
        assert self._bar is not None
        self._bar.n, self._bar.bar_format = self.done, self._layout()

    def annotate(self, note: str) -> None:
        """Show a short text, for example the loss, beside the count from now on."""
        self.note = note

    def close(self, *, complete: bool = True) -> None:
        """Remove the bar; if the work is complete, leave one line with count, time and rate."""
        if self._bar is not None:
            _drawn.remove(self)
            self._bar.close()
            self._bar = None
        if self.shown and complete:
            print_message(self.describe(ended=True))
        self.shown = False

    def describe(self, *, ended: bool = False) -> str:
        """Return the state of the work as one line of a log."""
        known = self.total is not None and not (ended and self.done == self.total)
        one = (self.total if known else self.done) == 1 and len(self.unit) > 1  # the unit may be s
        unit = self.unit.removesuffix("s") if one else self.unit
        share = f" of {self.total:,} {unit} ({self.done / max(self.total or 0, 1):.0%})" if known else f" {unit}"
        steady_s, rate = self._measure()
        times = self._describe_time_left(steady_s, rate)
        if ended:
            elapsed_s = time.monotonic() - self._started_s
            rate = (self.done - self.initial) / max(elapsed_s, 1e-9)
            times = []
        items = [f"{self.label}: {self.done:,}{share}"]
        items += [f"in {format_duration(elapsed_s)}"] if ended else []
        items += [f"{format_rate(rate)} {self.unit}/s", *times]
        return ", ".join([*items, self.note] if self.note else items)

    def _measure(self) -> tuple[float, float]:
        """Return the seconds of work after the first item, and the rate in them; 0 s and the mean rate before."""
        now_s = time.monotonic()
        if self._steady is not None and self.done > self._steady[1]:
            steady_s = now_s - self._steady[0]
            return steady_s, (self.done - self._steady[1]) / max(steady_s, 1e-9)
        return 0.0, (self.done - self.initial) / max(now_s - self._started_s, 1e-9)

    def _describe_time_left(self, steady_s: float, rate: float) -> list[str]:
        if self.total is None or steady_s < STEADY_S or rate <= 0:
            return []
        return [f"{format_duration((self.total - self.done) / rate)} left"]

    def _layout(self, columns: int | None = None) -> str:
        """Return tqdm's bar_format: the most important items that fit, and a bar if there is room for one."""
        columns = columns or shutil.get_terminal_size().columns
        steady_s, rate = self._measure()
        notes = self.note.split(", ") if self.note else []
        rates = [f"{format_rate(rate)} {self.unit}/s"]
        if self.total is None:
            return _escape(_fit([f"{self.label} {self.done:,} {self.unit}", *notes, *rates], columns))
        head = f"{self.label} {100 * self.done / max(self.total, 1):3.0f}%"
        counts = [f"{self.done}/{self.total}", *self._describe_time_left(steady_s, rate), *notes]
        tail = ", ".join([*counts, *rates])
        if len(head) + len(tail) + MIN_BAR_COLUMNS <= columns:
            return f"{_escape(head)} |{{bar}}| {_escape(tail)}"
        return _escape(_fit([head, *counts], columns))


def _fit(items: list[str], columns: int) -> str:
    """Join items, without the last ones that do not fit: a number that is cut off would be a wrong number."""
    while len(items) > 1 and len(", ".join(items)) > columns:
        items = items[:-1]
    return ", ".join(items)[:columns]


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def progress(iterable: Iterable[T], *, total: int | None = None, unit: str, label: str) -> Iterator[T]:
    """Yield the items of an iterable and show the progress.

    Args:
        total: number of items; None uses the length of the iterable, if it has one.
        unit: what the items are, in the plural.
        label: name of the work.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with ProgressBar(total, unit=unit, label=label) as shown:
        for item in iterable:
            yield item
            shown.advance()


def count_noun(number: int, noun: str) -> str:
    """Return a number and its noun: 1 file, 2 files."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def format_duration(seconds: float) -> str:
    """Return a duration as `42 s`, `3 min 05 s`, `2 h 07 min` or `3 d 04 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def format_rate(rate: float) -> str:
    """Return a rate with three significant digits, without decimals from 100 on."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
