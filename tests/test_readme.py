"""The README tells the truth: its table of keys, its examples in Python, the files that it names."""

import re
from pathlib import Path

import pytest
import torch

from vqdist.config.command_line import describe_keys
from vqdist.config.loading import find_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_table_of_keys_is_that_of_the_configuration() -> None:
    table = README.split("<!-- keys -->\n")[1].split("<!-- /keys -->")[0]
    assert table == describe_keys(), "put there what vqdist.config.command_line.describe_keys returns"


def test_the_library_example_runs() -> None:
    block = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "VectorQuantizer(" in block)
    torch.manual_seed(0)
    names: dict[str, torch.Tensor] = {}
    exec(block, names)
    assert names["images"].shape == (4, 1, 128, 128)
    assert names["maps"].shape == (4, 16, 16)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"--config ([\w/.]+)", README)) - {"FILE"}))
def test_named_configurations_exist(name: str) -> None:
    assert find_config(name).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b((?:launch|slurm)/[\w./-]+\w)", README))))
def test_named_files_exist(name: str) -> None:
    assert (ROOT / name).exists() or name == "slurm/site.sh"
