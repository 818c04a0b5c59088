"""ProgressBar of long work: counted right, shown by rank 0 alone, silent when it breaks off."""

import pytest

from vqdist.foundation.progress import ProgressBar, format_duration, format_rate, print_message, progress


def test_items_pass_through_and_one_line_is_left(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("abc"), total=3, unit="slices", label="shard")) == ["a", "b", "c"]
    written = capfd.readouterr()
    assert written.out == ""
    assert written.err.startswith("shard: 3 slices, in 0 s, ")
    assert written.err.count("\n") == 1


def test_the_length_is_asked_of_the_iterable(capfd: pytest.CaptureFixture[str]) -> None:
    for item in progress(range(10), unit="maps", label="sample"):
        if item == 4:
            break
    assert capfd.readouterr().err == ""


def test_other_ranks_are_silent(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert list(progress(range(3), unit="maps", label="sample")) == [0, 1, 2]
    print_message("nobody hears this")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("columns", range(10, 161, 3))
def test_a_bar_shows_no_half_of_an_item(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bar = ProgressBar(40, unit="steps", label="demo", shown=False)
    bar.done = 20
    bar.annotate("loss 0.1234, SSIM 0.3343, 123 images/s")
    monkeypatch.setattr(bar, "_measure", lambda: (2.0, 10.0))
    text = bar._layout(columns).replace("{bar}", "#" * 12)
    assert len(text) <= columns
    items = ["20/40", "loss 0.1234", "SSIM 0.3343", "123 images/s", "2 s left", "10 steps/s"]
    assert all(item in items for item in text.replace(" |############| ", ", ").split(", ")[1:]), text
    assert ("SSIM 0.3343" in text) == (columns >= len("demo  50%, 20/40, 2 s left, loss 0.1234, SSIM 0.3343"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7620, "2 h 07 min"), (100 * 3600, "4 d 04 h")],
)
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_rates_have_three_figures() -> None:
    assert [format_rate(rate) for rate in (0.01234, 12.345, 12345.6)] == ["0.0123", "12.3", "12,346"]
