"""The table of running sources, as a log shows it."""

import io
from datetime import UTC, datetime, timedelta

from rich.console import Console

from imgpipeline.cli.running import live_table
from imgpipeline.contracts.capture import ClockSource
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.protocol import CapturedFrame, Lost, Settled, SourceKind
from imgpipeline_tests.servers.waiting import wait_until

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def test_a_log_shows_the_rates_and_drops_of_each_source_at_an_interval():
    log, now = io.StringIO(), NOON

    def clock() -> datetime:
        return now

    board = Board(clock)
    with live_table(board, Console(file=log, width=160), clock, log_interval_s=0.05):
        watch = board.watch("gate", SourceKind.LIVE)
        for _ in range(20):
            now += timedelta(seconds=0.5)
            watch.captured(CapturedFrame(now, ClockSource.RECEIVER, data=b"x"))
            watch.settled(Settled.ANNOUNCED, "", 0.2)
        watch.captured(Lost("queue", 1_234))
        board.watch("yard", SourceKind.LIVE)
        shown = ["gate", "online", "2.0", "2.0", "0", "20", "0", "1,234", "0", "0", "s", "ago"]
        wait_until(lambda: _rows(log, "gate").count(shown) >= 3, limit_s=60, what="three tables of these numbers")
    assert _rows(log, "yard")[-1][:4] == ["yard", "starting", "0.0", "0.0"]


def test_an_error_with_brackets_is_shown_as_it_is():
    log, board = io.StringIO(), Board(lambda: NOON)
    with live_table(board, Console(file=log, width=200), lambda: NOON):
        board.watch("gate", SourceKind.LIVE).change(SourceState.RESTARTING, "[rtsp @ 0x5f] no answer [/stream1]")
    assert "[rtsp @ 0x5f] no answer [/stream1]" in log.getvalue()


def _rows(log: io.StringIO, source: str) -> list[list[str]]:
    return [words for line in log.getvalue().splitlines() if (words := line.split()) and words[0] == source]
