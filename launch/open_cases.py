"""Choose the cases under an open licence of a folder of slices: python launch/open_cases.py DATA OUT

DATA contains cases.csv, with the columns case, subject and licence, and keras_png_slices_data/ in the layout
oasis-png. OUT receives links to the slices of the cases under Apache-2.0 or the permissive notice of the MNI, and the
rows of these cases. Subjects are assigned anew: those in VALIDATE and TEST to these splits, all others to train. Links
are named case_SSV_slice_M: SS is the number of the subject, V that of its case.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

OPEN = ("Apache-2.0", "MNI permissive")
# Of the ten label maps of SynthSeg. Both variants of a map are in the same split, as they show the same anatomy.
VALIDATE = ("SynthSeg label map 17",)
TEST = ("SynthSeg label map 13", "SynthSeg label map 19")


def find_split(subject: str) -> str:
    """Return the split of a subject."""
    return "validate" if subject in VALIDATE else "test" if subject in TEST else "train"


def read_open_cases(table: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of the cases under an open licence."""
    with table.open(newline="", encoding="utf-8") as file:
        yield from (row for row in csv.DictReader(file) if row["licence"] in OPEN)


def main(data: Path, out: Path) -> None:
    """Link the slices of all open cases, and write their rows."""
    rows = list(read_open_cases(data / "cases.csv"))
    if not rows:
        sys.exit(f"{data / 'cases.csv'}: found no case under {' or '.join(OPEN)}; expected at least one")
    root = out / "keras_png_slices_data"
    cases: dict[str, list[str]] = defaultdict(list)  # of each subject
    for row in rows:
        of_subject = cases[row["subject"]]
        row["split"] = find_split(row["subject"])
        row["link"] = f"case_{list(cases).index(row['subject']) + 1:02d}{len(of_subject)}"
        of_subject.append(row["case"])
        folder = root / f"keras_png_slices_{row['split']}"
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted((data / "keras_png_slices_data").glob(f"*/{row['case']}_slice_*.png")):
            link = folder / path.name.replace(row["case"], row["link"])
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
    with (out / "cases.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
