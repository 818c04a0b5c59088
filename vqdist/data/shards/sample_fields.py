"""Label, slice number and subject of a sample of third-party shards, read leniently from KEY.json and KEY.cls.

Other makers of shards write NaN, a byte order mark, numbers as text and fields of any type. Only the fields that vqdist
uses must be understood.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from vqdist.foundation.errors import DataError

# Names, in lower case, that makers of shards give to a class.
SIMILAR_TO_LABEL = frozenset(
    {"label", "labels", "label_id", "class", "class_id", "class_idx", "class_label", "classid", "cls"}
    | {"category", "category_id", "target"}
)
_NUMBER = re.compile(r"(\d{1,10})(\.0*)?", re.ASCII)
_MAX_NUMBER = 2**31
_MAX_TEXT_LENGTH = 512
_MAX_CLASS_BYTES = 256


@dataclass(frozen=True)
class SampleFields:
    """The fields of one sample.

    Attributes:
        info: subject, source, slice and label; None for a field that is missing or was not understood.
        not_understood: field -> its value as text, for fields whose value was not understood; "json" -> the content of
            a JSON that is no object.
        other_label: label of KEY.cls where it differs from that of KEY.json, which is used; else None.
        similar_field: name of a field of a JSON without label that may be the label; else None.
    """

    info: dict[str, Any]
    not_understood: dict[str, str]
    other_label: int | None = None
    similar_field: str | None = None


def read_fields(json_data: bytes | None, class_data: bytes | None, *, where: str) -> SampleFields:
    """Read the fields of a sample.

    Args:
        json_data, class_data: content of KEY.json and KEY.cls; None if there is no such member.
        where: name of the sample in an error.
    Raises:
        DataError: KEY.json is not JSON at all.
    """
    content = {} if json_data is None else parse_lenient_json(json_data, where)
    found = content if isinstance(content, dict) else {}
    class_text = None if class_data is None else class_data[:_MAX_CLASS_BYTES].decode("utf-8-sig", "replace").strip()
    label, class_label = parse_number(found.get("label")), parse_number(class_text)
    info = {
        "subject": parse_text(found.get("subject")),
        "source": parse_text(found.get("source")),
        "slice": parse_number(found.get("slice")),
        "label": class_label if label is None else label,
    }
    given = {
        "label": class_text or found.get("label"),
        "slice": found.get("slice"),
        "subject": found.get("subject"),
    }
    not_understood = {
        name: repr(value)[:40] for name, value in given.items() if info[name] is None and value not in (None, "")
    }
    if not isinstance(content, dict):
        not_understood["json"] = repr(content)[:40]
    differs = None not in (label, class_label) and label != class_label
    has_label = found.get("label") is not None or class_data is not None
    similar = None if has_label else next((name for name in found if name.lower() in SIMILAR_TO_LABEL), None)
    return SampleFields(info, not_understood, class_label if differs else None, similar)


def parse_lenient_json(data: bytes, where: str) -> object:
    """Decode JSON as Python's `json` does, with NaN, a byte order mark, UTF-16, or text in Latin-1.

    Raises:
        DataError: the data are no JSON.
    """
    try:
        try:
            return json.loads(data)
        except UnicodeDecodeError:
            return json.loads(data.decode("latin-1"))
    except (ValueError, RecursionError) as error:
        raise DataError.of(where, f"invalid JSON ({str(error)[:200]})", "JSON, or no .json") from error


def parse_number(value: object) -> int | None:
    """Return a whole number from 0, given as a number, a truth value or text such as "2" or "2.0"; else None."""
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value.strip())
        value = int(match[1]) if match else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return int(value) if isinstance(value, int) and 0 <= value < _MAX_NUMBER else None


def parse_text(value: object) -> str | None:
    """Return a name, given as text or a number; else None. A long name is shortened and gets a hash."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value:
        return None
    encoded = value.encode("utf-8", "backslashreplace")  # JSON can contain halves of a surrogate pair
    if len(encoded) <= _MAX_TEXT_LENGTH:
        return encoded.decode()
    return f"{value[:64]}-{hashlib.sha256(encoded).hexdigest()[:16]}".encode("utf-8", "backslashreplace").decode()
