"""Datasets that several test files read, and the distribution of the tests to processes."""

from pathlib import Path

import pytest
from support import write_code_set, write_image_set


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Prepare the tests for two processes (`-n 2 --dist loadgroup`): the tests of a file run in the same process.

    The Slurm tests share one cluster, so they are one group. It takes longest and comes first.
    """
    slurm = Path(__file__).parent / "slurm"
    for item in items:
        item.add_marker(pytest.mark.xdist_group("slurm" if slurm in item.path.parents else str(item.path)))
    items.sort(key=lambda item: slurm not in item.path.parents)


@pytest.fixture(scope="session")
def image_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 60 synthetic slices of 32 x 32 in train, 9 in validate, 9 in test. A test that changes them copies them."""
    return write_image_set(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="session")
def code_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 60 synthetic maps of 8 x 8 codes in train, 9 in validate, 9 in test, from 16 codes."""
    return write_code_set(tmp_path_factory.mktemp("data") / "codes")
