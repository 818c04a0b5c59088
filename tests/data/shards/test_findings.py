"""Findings of the indexer: problems with the same remedy are one message with five examples and a count."""

import pytest

from vqdist.data.shards.findings import NOTES, Findings
from vqdist.foundation.errors import DataError, Problem


def test_problems_are_grouped_by_their_remedy() -> None:
    findings = Findings("/set")
    findings.raise_problems()
    for number in range(1200):
        findings.leave_out(Problem(f"/set/a.tar, sample {number}", "x.txt", "a picture"))
    findings.leave_out(Problem("/set/b.tar", "an empty file", "a tar"))
    assert findings.num_unusable == 1201
    listed = "; ".join(f"a.tar, sample {number}: x.txt" for number in range(5)) + "; ... (1,200 in all)"
    with pytest.raises(DataError) as raised:
        findings.raise_problems()
    assert raised.value.problems == [
        Problem("/set", listed, "a picture"),
        Problem("/set/b.tar", "an empty file", "a tar"),
    ]
    assert findings.describe() == [
        f"1,200 left out: {listed}; expected a picture",
        "1 left out: b.tar: an empty file; expected a tar",
    ]


def test_a_message_has_at_most_five_remedies() -> None:
    findings = Findings("/set")
    for number in range(300):
        findings.leave_out(Problem("/set/a.tar", "x", f"y{number}"))
    with pytest.raises(DataError) as raised:
        findings.raise_problems()
    assert len(raised.value.problems) == 6
    assert findings.describe()[-1] == "300 samples and shards left out in all"
    assert len(findings.describe()) == 6


def test_notes_have_a_count_and_five_examples() -> None:
    findings = Findings("/set")
    findings.note("label", "'cat' in a")
    for number in range(7):
        findings.note("no extension", f"x{number}")
    one, many = findings.describe()
    assert one == "1 " + NOTES["label"][0] + ": 'cat' in a"
    assert many == "7 " + NOTES["no extension"][1] + ": x0, x1, x2, x3, x4, ..."
