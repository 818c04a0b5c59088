"""Third-party shards: tars of pictures that other programs than vqdist wrote."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def encode_picture(number: int, kind: str, size: tuple[int, int] = (8, 6)) -> bytes:
    """Return a picture in one colour, (columns, rows); red is 20 times the number."""
    stream = io.BytesIO()
    Image.new("RGB", size, (number * 20, 100, 200)).save(stream, kind)
    return stream.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar of members, name -> content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path
