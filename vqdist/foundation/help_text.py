"""Text of `--help`, wrapped to the width of the terminal."""

import shutil
import textwrap
from collections.abc import Iterator

MAX_COLUMNS = 100
MIN_COLUMNS = 40
OPTION_INDENT = 8


def read_columns() -> int:
    """Return the width for text: that of the terminal or COLUMNS, at most MAX_COLUMNS; 80 if it is unknown."""
    return max(min(shutil.get_terminal_size().columns, MAX_COLUMNS), MIN_COLUMNS)


def wrap_text(text: str, columns: int | None = None) -> str:
    """Wrap the paragraphs of a text.

    A line that starts with spaces, or with `usage:`, stays a line of its own; the help of an option is continued below
    its start, another line further in. The other lines of a paragraph are filled anew.

    Args:
        columns: the greatest length of a line; None: that of the terminal.
    """
    width = columns or read_columns()
    return "\n".join(line for paragraph in _split_paragraphs(text) for line in _wrap(paragraph, width))


def _split_paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs, indented lines and empty lines."""
    lines: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith((" ", "usage:")):
            lines.append(line)
            continue
        if lines:
            yield " ".join(lines)
        lines = []
        yield line.rstrip()
    if lines:
        yield " ".join(lines)


def _wrap(paragraph: str, width: int) -> list[str]:
    indent = " " * (len(paragraph) - len(paragraph.lstrip()))
    further = 7 if paragraph.startswith("usage:") else 2 if 0 < len(indent) < OPTION_INDENT else 0
    return textwrap.wrap(
        paragraph.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * further,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
