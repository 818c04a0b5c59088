"""Values and their types as messages show them: null, true and false as in JSON and YAML, not None, True and False."""

import json

MAX_CHARACTERS = 200


def show_found(value: object) -> str:
    """Return a value that was found in a file or on a command line, shortened; text in quotes."""
    try:
        shown = repr(value) if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    except TypeError:  # YAML has keys that JSON does not have
        shown = repr(value)
    return shown if len(shown) <= MAX_CHARACTERS else f"{shown[:MAX_CHARACTERS]}..."


def show_type(value: object) -> str:
    """Return what kind of JSON or YAML value it is."""
    for kind, name in ((bool, "true or false"), (str, "text"), (int | float, "a number"), (list, "a list")):
        if isinstance(value, kind):
            return name
    return "null" if value is None else "a mapping" if isinstance(value, dict) else type(value).__name__
