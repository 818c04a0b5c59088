"""launch/first_steps.ipynb: a valid notebook without outputs, whose cells run in order."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "launch" / "first_steps.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def read_code() -> list[str]:
    """Return the text of each code cell."""
    return ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def test_the_notebook_is_stored_without_outputs() -> None:
    values = json.loads(NOTEBOOK.read_text())
    assert (values["nbformat"], values["metadata"]["kernelspec"]["language"]) == (4, "python")
    for cell in CELLS:
        assert cell.keys() >= {"id", "cell_type", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)


@pytest.mark.timeout(1400)  # for a busy machine
def test_the_cells_run(tmp_path: Path) -> None:
    file = tmp_path / "cells.py"
    file.write_text("\n".join(read_code()))
    done = subprocess.run(
        [sys.executable, "-W", "error", file], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "bits per code; 8 for a uniform distribution" in done.stdout
    assert "completed/grid.png" in done.stdout
    assert "scores/figures/slices.png" in done.stdout
