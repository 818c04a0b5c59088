"""Words that code, messages and documents must not use, because newcomers stumble over them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("vqdist", "launch", "slurm", "configs", "tests")
TEXT = {".py", ".md", ".sh", ".sbatch", ".yaml", ".example"}
# Each with what to write instead.
FORBIDDEN = {
    r"foretold|foretells?|foretelling": "predict",
    r"mend(s|ed|ing)?": "fix",
    r"tells? of": "report, describe",
    r"made[ -]up": "synthetic",
    r"by heart": "memorise, overfit",
    r"somebody else": "third-party",
    r"is told": "is configured with, receives",
    r"in spite of all tries": "after all retries",
}
PATTERN = re.compile(r"(?<![A-Za-z])(" + "|".join(FORBIDDEN).replace(" ", r"\s+(?:#\s*)?") + r")(?![A-Za-z])", re.I)


def list_files() -> list[str]:
    """Return the text files of the project, relative to its root; the link vqdist/configs is not followed."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in TEXT]
    paths += ROOT.glob("*.md")
    return sorted(str(path.relative_to(ROOT)) for path in paths if path != Path(__file__))


@pytest.mark.parametrize("name", list_files())
def test_no_forbidden_word(name: str) -> None:
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        text = re.sub(r"`[^`\n]*`", "", text)  # quoted names, as of a former state in the changelog
    found = [f"{text.count(chr(10), 0, match.start()) + 1}: {match[0]!r}" for match in PATTERN.finditer(text)]
    assert not found, f"{name}: found {found}; expected other words, see FORBIDDEN"


def test_the_pattern_finds_words_and_no_parts_of_words() -> None:
    for text in ("to mend it", "was Mended.", "made-up data", "MADE UP", "by\n    # heart", "mend_it"):
        assert PATTERN.search(text), text
    for text in ("amendment", "recommend", "tends to", "this tolerance"):
        assert not PATTERN.search(text), text
