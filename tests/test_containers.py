"""The files that install vqdist with fixed versions: constraints, Dockerfile and Apptainer definition."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
DOCKERFILE = (LAUNCH / "Dockerfile").read_text()
DEFINITION = (LAUNCH / "vqdist.def").read_text()
BASE = r"python:3\.11\.\d+-slim-\w+"


def read_constraints() -> dict[str, str]:
    """Return name -> version of launch/constraints.txt."""
    lines = (LAUNCH / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    versions: dict[str, str] = {}
    for found in requirements:
        ((operator, number),) = [(part.operator, part.version) for part in found.specifier]
        assert operator == "=="
        versions[found.name] = number
    return versions


def read_dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, lines that go on joined."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


def read_definition() -> dict[str, list[str]]:
    """Return section -> lines of the Apptainer definition; the header is the section ''."""
    sections: dict[str, list[str]] = {"": []}
    for line in filter(None, map(str.strip, DEFINITION.splitlines())):
        if line.startswith("%"):
            sections[name := line[1:]] = []
        elif not line.startswith("#"):
            sections[name if len(sections) > 1 else ""].append(line)
    return sections


def test_every_dependency_has_a_version_that_pyproject_allows() -> None:
    versions = read_constraints()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), text
    assert not [name for name in versions if name.startswith(("nvidia", "cuda")) or name == "vqdist"]


def test_the_documented_command_makes_the_file() -> None:
    done = subprocess.run([sys.executable, LAUNCH / "constraints.py"], capture_output=True, text=True, check=True)
    heading, *lines = done.stdout.splitlines()
    assert heading == (LAUNCH / "constraints.txt").read_text().splitlines()[0]
    printed = dict(line.split("==") for line in lines)
    assert list(printed) == sorted(printed)
    direct = {"torch", "accelerate", "huggingface-hub", "numpy", "wandb", "pytest"}
    assert direct <= printed.keys() & read_constraints().keys()
    assert printed["torch"] == printed["torch"].partition("+")[0]
    assert "launch/constraints.py > launch/constraints.txt" in (LAUNCH / "constraints.py").read_text()


def test_the_image_has_a_pinned_base_a_user_and_an_entry() -> None:
    instructions = read_dockerfile()
    (base,) = [value for name, value in instructions if name == "FROM"]
    assert re.fullmatch(BASE, base)
    assert {name for name, _ in instructions} <= {
        "FROM",
        "ARG",
        "COPY",
        "RUN",
        "USER",
        "ENV",
        "WORKDIR",
        "ENTRYPOINT",
        "CMD",
    }
    names = [name for name, _ in instructions]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")
    assert dict(instructions)["USER"] not in ("root", "0")
    assert dict(instructions)["ENTRYPOINT"] == '["vqdist"]'
    installs = [value for name, value in instructions if name == "RUN" and "pip install" in value]
    assert all("--constraint /opt/vqdist/constraints.txt" in value for value in installs)


def test_the_apptainer_image_has_the_same_base_files_and_entry() -> None:
    sections = read_definition()
    header = dict(line.split(": ") for line in sections[""])
    assert header == {"Bootstrap": "docker", "From": dict(read_dockerfile())["FROM"]}
    assert "--constraint /opt/vqdist/constraints.txt" in " ".join(sections["post"])
    assert sections["runscript"] == ['exec vqdist "$@"']
    done = subprocess.run(["bash", "-n"], input="\n".join(sections["post"]), text=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("kind", ["docker", "apptainer"])
def test_everything_that_the_package_is_built_from_is_copied(kind: str) -> None:
    if kind == "docker":
        copied = [word for name, value in read_dockerfile() if name == "COPY" for word in value.split()[:-1]]
        ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().splitlines()
        assert ignored[0] == "*"
        assert {f"!{name}" for name in copied} <= set(ignored)
    else:
        copied = [line.split()[0] for line in read_definition()["files"]]
    assert set(copied) == {"pyproject.toml", "README.md", "LICENSE", "configs", "vqdist", "launch/constraints.txt"}
    assert all((ROOT / name).exists() for name in copied)
    assert (ROOT / "vqdist" / "configs").readlink() == Path("../configs")
