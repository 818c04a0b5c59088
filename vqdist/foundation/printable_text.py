"""File names as text that can be written to JSON and to the terminal."""

import re

_UNDECODED_BYTE = re.compile("[\udc80-\udcff]")


def printable(name: str) -> str:
    r"""Return a file name with each byte that is not UTF-8 as \xNN.

    Python keeps such a byte as a lone surrogate (PEP 383), which opens the file but cannot be encoded as UTF-8. Names
    without such bytes are returned unchanged.
    """
    escaped = _UNDECODED_BYTE.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", name)
    return escaped.encode("utf-8", "backslashreplace").decode()
