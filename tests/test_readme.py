"""The documents match the code: the table of keys, the Python example, and the files that they name."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqdist.config.command_line import describe_keys
from vqdist.config.loading import find_config

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "launch", "slurm", "tests")
NAMES = ("README.md", "CHANGELOG.md", *(f"{folder}/README.md" for folder in FOLDERS))
DOCUMENTS = {name: (ROOT / name).read_text() for name in NAMES}
README = DOCUMENTS["README.md"]


def find_all(pattern: str) -> list[tuple[str, str]]:
    """Return (document, match) of each distinct match of a pattern in the documents."""
    return sorted({(name, found) for name, text in DOCUMENTS.items() for found in re.findall(pattern, text)})


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 220


def test_the_table_of_keys_is_that_of_the_configuration() -> None:
    table = DOCUMENTS["configs/README.md"].split("<!-- keys -->\n")[1].split("<!-- /keys -->")[0]
    assert table == describe_keys(), "update it with the output of vqdist.config.command_line.describe_keys()"


def test_the_python_example_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.S)
    torch.manual_seed(0)
    names: dict[str, torch.Tensor] = {}
    exec(block, names)
    assert names["quantized"].shape == (8, 64, 16, 16)
    assert names["images"].shape == (4, 1, 128, 128)
    assert names["maps"].shape == (4, 16, 16)


def test_the_training_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"\n((?:    .*\n)*    .*\bsave_model\(.*\n(?:    .*\n)*)", README)
    assert "range(1000)" in block
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(256, size=(40, 50), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    names: dict[str, torch.Tensor] = {}
    exec(textwrap.dedent(block).replace("range(1000)", "range(2)").replace("(16,)", "(2,)"), names)
    assert names["recon"].shape == names["images"].shape == (3, 1, 128, 128)
    assert names["out"].loss.isfinite()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("document", "name"), find_all(r"--config ([\w/.]+)"))
def test_named_configurations_exist(document: str, name: str) -> None:
    assert name == "FILE" or find_config(name).exists()


@pytest.mark.parametrize(("document", "name"), find_all(r"\b((?:launch|slurm|configs|tests|vqdist)/[\w./-]*\w)"))
def test_named_files_exist(document: str, name: str) -> None:
    # slurm/site.sh is the user's; a/b.py and COMMAND are placeholders.
    assert (ROOT / name).exists() or name == "slurm/site.sh" or re.search(r"a/(test_)?b\.py|COMMAND", name)


@pytest.mark.parametrize(("document", "link"), find_all(r"\]\(([^)\s]+)\)"))
def test_links_lead_to_files_and_headings(document: str, link: str) -> None:
    target, _, anchor = link.partition("#")
    path = (ROOT / document).parent / target if target else ROOT / document
    assert path.exists()
    if anchor:
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("document", "module"), find_all(r"(?:-m|sh|sbatch) (vqdist\.[a-z]+)"))
def test_named_modules_exist(document: str, module: str) -> None:
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()
