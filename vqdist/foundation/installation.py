"""Whether the interpreter that runs a command has the packages of vqdist.

Only the standard library, and syntax that Python 3.7 can read: an older Python must get as far as the message.
"""

import importlib.util
import os
import sys

MIN_PYTHON = (3, 11)
# Import names of the packages that every command needs.
PACKAGES = ("accelerate", "numpy", "pydantic", "safetensors", "torch", "tqdm", "yaml")
ACTIVATE = (
    "the environment that vqdist is installed in; activate it (`source .venv/bin/activate` in the checkout) or "
    "install vqdist (`pip install .`)"
)


def find_installation_problem() -> "tuple[str, str, str] | None":  # quoted: an error before Python 3.9
    """Return where, what was found and what is expected if this interpreter cannot run a command, None if it can."""
    if sys.version_info < MIN_PYTHON:
        found, wanted = (".".join(map(str, version)) for version in (sys.version_info[:3], MIN_PYTHON))
        return sys.executable, f"Python {found}", f"{wanted} or newer, in {ACTIVATE}"
    missing = [name for name in PACKAGES if name not in sys.modules and importlib.util.find_spec(name) is None]
    return describe_missing(missing) if missing else None


def describe_missing(names: "list[str]") -> "tuple[str, str, str]":
    """Return where, what was found and what is expected for packages that cannot be imported."""
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return sys.executable, f"no package {listed}", ACTIVATE


def is_command() -> bool:
    """Return whether this process was started as `python -m vqdist...` or `vqdist`, and not from other Python code.

    Python sets argv[0] to -m while it imports the packages of the module.
    """
    return bool(sys.argv) and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]) == "vqdist")


def check_installation() -> None:
    """End a command with exit code 2 and one message if it cannot run in this interpreter."""
    problem = find_installation_problem() if is_command() else None
    if problem is not None:
        if os.environ.get("RANK", "0") == "0":
            sys.stderr.write("error: {}: found {}; expected {}\n".format(*problem))
        sys.exit(2)
