"""ProgressBar of long work: counted right, shown by rank 0 alone, silent when it breaks off."""

import pytest

from vqdist.foundation import progress as progress_module
from vqdist.foundation.progress import STEADY_S, ProgressBar, format_duration, format_rate, print_message, progress


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
    monkeypatch.setattr(bar, "_measure", lambda: (STEADY_S, 10.0))
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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets, in seconds."""
    now_s = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now_s[0])
    return now_s


def test_the_time_left_is_that_of_steady_work(clock: list[float]) -> None:
    """A first step of 60 s, which compiles or starts workers, says nothing about the 39 that follow at 1 s."""
    bar = ProgressBar(40, unit="steps", label="demo", shown=False)
    clock[0] = 60.0
    bar.advance()
    assert "left" not in bar.describe()
    for _ in range(4):
        clock[0] += 1.0
        bar.advance()
        assert "left" not in bar.describe()
    clock[0] += 1.0
    bar.advance()
    assert bar.describe() == "demo: 6 of 40 steps (15%), 1 steps/s, 34 s left"
    assert bar.describe(ended=True) == "demo: 6 of 40 steps (15%), in 1 min 05 s, 0.0923 steps/s"


def test_work_that_is_taken_back_starts_the_measurement_again(clock: list[float]) -> None:
    bar = ProgressBar(40, unit="steps", label="demo", shown=False)
    for _ in range(20):
        clock[0] += 1.0
        bar.advance()
    bar.advance(-15)
    clock[0] += 6.0
    bar.advance(3)
    assert bar.describe() == "demo: 8 of 40 steps (20%), 0.5 steps/s, 1 min 04 s left"


def test_a_log_has_a_first_line_after_two_seconds(clock: list[float], capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(1000, unit="steps", label="demo") as bar:
        for _ in range(48):
            clock[0] += 0.25
            bar.advance()
        written = capfd.readouterr().err.splitlines()
    assert [line.split()[1] for line in written] == ["8", "48"]


def test_a_line_can_be_written_before_it_is_due(capfd: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(10, unit="steps", label="demo") as bar:
        bar.advance(3)
        assert bar.lines == 0
        bar.write_line()
        assert bar.lines == 1
    assert capfd.readouterr().err.startswith("demo: 3 of 10 steps (30%), ")


@pytest.mark.parametrize(("done", "expected"), [(1, "demo: 1 step, in"), (2, "demo: 2 steps, in")])
def test_one_is_no_plural(done: int, expected: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(list(progress(range(done), unit="steps", label="demo"))) == done
    assert capfd.readouterr().err.startswith(expected)
    bar = ProgressBar(1, unit="steps", label="demo", shown=False)
    assert bar.describe().startswith("demo: 0 of 1 step (0%)")
