"""launch/environment.sh with pip replaced by a recorder: what it installs, and when it installs nothing."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The interpreter below any virtual environment: launch/environment.sh uses an environment that has torch as it is.
BASE = str(getattr(sys, "_base_executable", sys.executable))
# A python whose `-m pip` writes its arguments to a file, and that finds the packages of a folder beside it.
RECORDER = """#!/usr/bin/env bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ $1 != -m || $2 != pip ]] || { echo "${*:3}" >>"$here/pip.log"; exit; }
PYTHONPATH=$here/packages exec "$BASE" "$@"
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of what the script reads, with a .venv whose pip only records."""
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch/environment.sh", tmp_path / "launch")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(RECORDER)
    python.chmod(0o755)
    return tmp_path


def install(checkout: Path, extras: str = "") -> list[str]:
    """Run the script and return the calls of pip."""
    environment = {name: value for name, value in os.environ.items() if name not in {"CONDA_PREFIX", "PYTHONPATH"}}
    environment |= {"PYTHON": BASE, "BASE": BASE, "EXTRAS": extras}
    log = checkout / ".venv/pip.log"
    log.unlink(missing_ok=True)
    subprocess.run(["bash", checkout / "launch/environment.sh"], check=True, env=environment, capture_output=True)
    return log.read_text().splitlines() if log.exists() else []


def add_torch(checkout: Path, version: str) -> None:
    metadata = checkout / f".venv/packages/torch-{version}.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")


def test_a_second_call_installs_nothing(checkout: Path) -> None:
    (call,) = install(checkout)
    assert call.endswith("--editable .")
    assert install(checkout) == []


def test_the_demo_after_pip_install_installs_nothing(checkout: Path) -> None:
    metadata = checkout / ".venv/packages/vqdist-0.2.0.dist-info"
    metadata.mkdir(parents=True)
    required = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = [
        "Metadata-Version: 2.1",
        "Name: vqdist",
        "Version: 0.2.0",
        *(f"Requires-Dist: {name}" for name in required),
    ]
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    (metadata / "direct_url.json").write_text(json.dumps({"url": checkout.as_uri(), "dir_info": {}}))
    assert install(checkout) == []
    assert len(install(checkout, "dev")) == 1  # it may lack the extras
    (checkout / ".venv/vqdist-installed").unlink()
    (metadata / "METADATA").write_text("\n".join(lines[:-1]) + "\n")  # an earlier version required less
    assert len(install(checkout)) == 1
    (metadata / "METADATA").write_text("\n".join(lines) + "\n")
    (checkout / ".venv/vqdist-installed").unlink()
    (metadata / "direct_url.json").write_text(json.dumps({"url": f"{checkout.as_uri()}-other", "dir_info": {}}))
    assert len(install(checkout)) == 1


def test_the_demo_after_the_tests_installs_nothing(checkout: Path) -> None:
    install(checkout)
    (call,) = install(checkout, "dev")
    assert call.endswith("--editable .[dev]")
    assert install(checkout) == install(checkout, "dev") == []


def test_changed_requirements_are_installed(checkout: Path) -> None:
    install(checkout, "dev")
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert len(install(checkout)) == len(install(checkout, "dev")) == 1


def test_another_checkout_in_the_same_environment_installs_itself(checkout: Path, tmp_path: Path) -> None:
    install(checkout)
    moved = checkout.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert len(install(moved)) == 1


@pytest.mark.parametrize(
    ("version", "index"), [("2.14.1", None), ("2.13.0+cpu", "cpu"), ("2.13.0+cu126", "cu126"), ("2.9.0+nv25.10", None)]
)
def test_an_installed_torch_is_kept(checkout: Path, version: str, index: str | None) -> None:
    add_torch(checkout, version)
    (alone,), (with_extra,) = install(checkout), install(checkout, "bench")
    assert f"torch=={version}" in alone.split()
    assert f"torch=={version}" in with_extra.split()
    assert "--extra-index-url" not in alone
    assert ("--extra-index-url" in with_extra) is (index is not None)
    assert index is None or f"https://download.pytorch.org/whl/{index}" in with_extra.split()
