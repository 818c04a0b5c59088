"""Datasets that several test files read, and the distribution of the tests to processes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import VOLUMES, write_code_set, write_image_set

SLURM = "tests/slurm/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the Slurm tests, which take longest."""
    items.sort(key=lambda item: not item.nodeid.startswith(SLURM))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run the tests of a file in one process, and all Slurm tests too, because they share a cluster.

    The groups of `--dist loadgroup` would do, but xdist 3.8 does not read them with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return SLURM if nodeid.startswith(SLURM) else nodeid.partition("::")[0]

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """Let the process compute with subnormal numbers again after a test that ran a command in it."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def image_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 60 synthetic slices of 32 x 32 in train, 9 in validate, 9 in test. Tests copy it to change it."""
    return write_image_set(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="session")
def code_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 60 synthetic maps of 8 x 8 codes in train, 9 in validate, 9 in test, from 16 codes."""
    return write_code_set(tmp_path_factory.mktemp("data") / "codes")


@pytest.fixture(scope="session")
def volume_codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random maps of volumes of 4 neighbouring slices: 5 volumes in train, 1 in validate, 2 in test."""
    return write_code_set(tmp_path_factory.mktemp("data") / "volumes", slices=VOLUMES)
