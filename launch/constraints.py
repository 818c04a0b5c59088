"""Print the versions of vqdist's dependencies in this environment, as a constraints file for pip:

    python launch/constraints.py > launch/constraints.txt

launch/constraints.txt has the versions that the tests of this commit used: `pip install -c launch/constraints.txt .`
installs them again. Run the command after the tests have passed with other versions.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
# Each build of torch pins its own; vqdist itself is installed from the checkout.
LEFT_OUT = re.compile(r"nvidia-.*|cuda-.*|triton|vqdist|pip|setuptools|wheel")


def read_requirements() -> Iterator[Requirement]:
    """Yield the direct dependencies in pyproject.toml, those of all extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]:
        yield Requirement(text)


def find_versions() -> dict[str, str]:
    """Return name -> version of each installed dependency, direct or not."""
    found: dict[str, str] = {}
    open_requirements = list(read_requirements())
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_requirements:
        requirement = open_requirements.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) in seen or LEFT_OUT.fullmatch(name):
            continue
        seen.add((name, extras))
        try:
            found[name] = version(name).partition("+")[0]  # without the build of torch, such as +cpu
        except PackageNotFoundError:  # an extra that is not installed here, or a package of another platform
            continue
        inner = map(Requirement, requires(name) or [])
        open_requirements += [item for item in inner if applies(item, extras)]
    return found


def applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Return whether a dependency is needed on this platform with the given extras."""
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


if __name__ == "__main__":
    lines = [f"{name}=={number}\n" for name, number in sorted(find_versions().items())]
    sys.stdout.writelines(["# Made by launch/constraints.py; see there.\n", *lines])
