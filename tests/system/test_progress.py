"""Progress: lines in a log, a bar on a terminal, nothing when quiet."""

from __future__ import annotations

import errno
import io
import os

import pytest

from rgsud_fast.system.progress import Progress, clock, counting


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_plain_lines_with_everything_in_them():
    log = io.StringIO()
    with Progress(1000, stream=log, every=0) as progress:
        progress.advance(500, 1, {"pair": -23.456789, "img/s": 12.0, "pool": "3/52"})
        progress.say("validation [27 dB]")
        progress.advance(1000, 2, {"pair": -24.0})
    assert log.getvalue().splitlines() == [
        "step 500/1,000  stage 1  pair -23.46  img/s 12  pool 3/52  ETA ?",
        "validation [27 dB]",
        "step 1,000/1,000  stage 2  pair -24  ETA 0:00",
    ]


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("rgsud_fast.system.progress.time.monotonic", lambda: self.now)


def test_what_is_no_iteration_has_a_count_and_an_eta_of_its_own(monkeypatch):
    log, clock = io.StringIO(), Clock(monkeypatch)
    with Progress(1000, stream=log) as progress:
        for done in range(1, 1201):
            clock.now += 0.125
            progress.phase("reading images", done, 1200)
        progress.advance(1, 1, {})
        clock.now += 10
        progress.advance(2, 1, {})
        for done in (1, 2):
            clock.now += 60
            progress.phase("sweep", done, 2)
    lines = log.getvalue().splitlines()
    assert lines[0] == "reading images 40/1,200  ETA 2:25"
    assert lines[1] == "reading images 80/1,200  ETA 2:20"
    assert len(lines) == 29 + 2  # one every five seconds, and none of the end
    assert lines[-2:] == ["step 1/1,000  stage 1  ETA ?", "sweep 1/2  ETA 1:00"]


def test_a_second_phase_of_the_same_name_begins_anew(monkeypatch):
    log, clock = io.StringIO(), Clock(monkeypatch)
    with Progress(10, stream=log, every=0) as progress:
        for _ in range(2):
            clock.now += 7
            progress.phase("sweep", 1, 3)
    assert log.getvalue().splitlines() == ["sweep 1/3  ETA 0:14"] * 2


def test_a_log_tells_figures_once_and_hears_of_a_slow_run(monkeypatch):
    log, clock = io.StringIO(), Clock(monkeypatch)
    with Progress(1000, stream=log, every=20) as progress:
        for step in range(1, 101):
            clock.now += 2
            progress.advance(step, 1, {"pair": -20 - step // 50} if step >= 50 else {})
    assert log.getvalue().splitlines() == [
        "step 1/1,000  stage 1  ETA ?",
        "step 31/1,000  stage 1  ETA 32:18",
        "step 50/1,000  stage 1  pair -21  ETA 31:40",
        "step 80/1,000  stage 1  ETA 30:40",
        "step 100/1,000  stage 1  pair -22  ETA 30:00",
    ]


def test_a_log_is_not_flooded_and_its_last_step_is_told():
    log = io.StringIO()
    with Progress(100, stream=log, every=3600) as progress:
        for step in range(1, 101):
            progress.advance(step, 1, {})
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["1/100", "100/100"]


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Progress(100, stream=terminal) as progress:
        progress.advance(50, 1, {"pair": -23.4})
        progress.say("validation")
    shown = terminal.getvalue()
    assert "━" in shown
    assert "50/100" in shown
    assert "validation" in shown


def test_a_terminal_gets_a_bar_of_a_phase(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with Progress(100, stream=terminal) as progress:
        progress.of("sweep")(12, 50)
    assert "sweep" in terminal.getvalue()
    assert "12/50" in terminal.getvalue()


def test_quiet_prints_nothing():
    log = io.StringIO()
    with Progress(10, quiet=True, stream=log) as progress:
        progress.phase("sweep", 1, 2)
        progress.advance(10, 1, {})
        progress.say("hello")
    assert log.getvalue() == ""


def test_counting_tells_the_end(capsys):
    with counting("derained") as watch:
        for i in range(1, 4):
            watch(i, 3, f"{i}.png")
    assert capsys.readouterr().out == "derained 3/3 3.png\n"


def test_counting_tells_of_tiles_where_an_image_takes_long(capsys, monkeypatch):
    with counting("derained", every=0) as watch:
        watch.part(2, 12, "large.png")
        watch(1, 1, "large.png")
    assert capsys.readouterr().out == "tile 2/12 of large.png\nderained 1/1 large.png\n"


def test_a_terminal_gets_a_bar_of_images_and_one_of_tiles(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    with counting("derained") as watch:
        watch(1, 3, "small.png")
        watch.part(2, 12, "[large].png")
    shown = terminal.getvalue()
    assert "derained small.png" in shown
    assert "tiles of [large].png" in shown


def test_a_clock_has_hours_only_when_needed():
    assert [clock(seconds) for seconds in (0, 61.4, 3600, 36061)] == ["0:00", "1:01", "1:00:00", "10:01:01"]


class Gone(io.StringIO):
    """What nobody reads any more."""

    def __init__(self, why):
        super().__init__()
        self.why = why

    def write(self, text):
        raise OSError(self.why, os.strerror(self.why))


@pytest.mark.parametrize("why", [errno.EIO, errno.EPIPE], ids=["closed terminal", "head"])
def test_a_reader_that_goes_away_stops_nothing(why):
    with Progress(10, stream=Gone(why)) as progress:
        progress.say("nobody hears this")
        progress.advance(10, 1, {})


def test_a_terminal_of_few_letters_shows_numbers_for_the_others():
    raw = io.BytesIO()
    with Progress(10, stream=io.TextIOWrapper(raw, "ascii", write_through=True)) as progress:
        progress.say("雨 of \udce9t\udce9")
    assert raw.getvalue() == b"\\u96e8 of \\udce9t\\udce9\n"
