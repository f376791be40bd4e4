"""The command line as a whole: quick to answer, one message for an error, statuses that scripts can trust."""

import inspect
import io
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from imgpipeline import __version__
from imgpipeline.cli import app as cli_app
from imgpipeline.cli import output
from imgpipeline.cli.ingest import topic_settings
from imgpipeline.cli.options import JsonOption, Period, RowFormat, command
from imgpipeline.cli.output import shown
from imgpipeline.cli.running import live_table
from imgpipeline.contracts.capture import ClockSource
from imgpipeline.errors import ConfigurationError
from imgpipeline.sources.board import Board, SourceState
from imgpipeline.sources.protocol import CapturedFrame, Lost, Settled, SourceKind
from imgpipeline_tests.cli.command import Ended, all_commands, environment, interrupt
from imgpipeline_tests.cli.command import run_new as run
from imgpipeline_tests.servers.ports import LOOPBACK
from imgpipeline_tests.servers.waiting import wait_until

HEAVY = {
    "kafka", "cv2", "duckdb", "obstore", "onnx", "onnxruntime", "openvino", "pyarrow", "pandas", "numpy", "dagster",
}  # fmt: skip
LIST_LOADED = """
import contextlib, io, sys
from imgpipeline.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print(*sys.modules)
"""


@pytest.mark.medium
def test_version_and_help_are_shown_and_load_nothing_heavy(tmp_path):
    """What they cost follows from what they import."""
    ended = run("--version", cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, f"imgpipeline {__version__}\n")
    for argument in ("--version", "--help"):
        command = [sys.executable, "-c", LIST_LOADED, argument]
        loaded = set(subprocess.check_output(command, env=environment(), text=True).split())
        assert "typer" in loaded
        assert not HEAVY & loaded


@pytest.mark.medium
@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "background"])
def test_ctrl_c_ends_with_status_130_and_no_traceback(inherited, tmp_path):
    """Also where the tests run in the background of a shell, whose children ignore SIGINT."""
    before = signal.signal(signal.SIGINT, inherited)
    try:
        ended = interrupt_a_wait(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.status == 130
    assert "Traceback" not in ended.stderr


def interrupt_a_wait(tmp_path: Path) -> Ended:
    with socket.create_server((LOOPBACK, 0)) as silent:
        silent.settimeout(60)
        env = {"IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{silent.getsockname()[1]}"}
        return interrupt("topics", "create", env=env, cwd=tmp_path, when=silent.accept)


@pytest.mark.medium
def test_closing_the_pipe_early_is_not_an_error(tmp_path):
    command = f"{sys.executable} -m imgpipeline.cli settings --json | head -n 1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.stdout == "{\n"
    assert ended.stderr == ""


def raise_in_app(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli_app, "app", fail)


def test_an_unexpected_error_is_one_message_and_a_traceback_on_demand(monkeypatch, capsys):
    raise_in_app(monkeypatch, ZeroDivisionError("division by zero"))
    monkeypatch.delenv("IMGPIPELINE_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli_app.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("Error: Unexpected error: ZeroDivisionError")
    monkeypatch.setenv("IMGPIPELINE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli_app.main()


def test_an_error_cannot_control_the_terminal(monkeypatch, capsys):
    raise_in_app(monkeypatch, ConfigurationError("a name \x1b[2Jwith [red]tricks[/red]"))
    with pytest.raises(SystemExit):
        cli_app.main()
    assert capsys.readouterr().err == "Error: a name \\x1b[2Jwith [red]tricks[/red]\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (12345.6, "12,346"),
        ("\x07é", "\\x07é"),
    ],
)
def test_cells_are_short_and_plain(value, text):
    assert shown(value) == text


@pytest.mark.medium
def test_every_command_has_a_help_text():
    for words, one in all_commands():
        answered = CliRunner().invoke(cli_app.app, [*words, "--help"])
        assert (answered.exit_code, "Usage:" in answered.stdout, bool(one.help)) == (0, True, True), words


def test_a_group_of_options_takes_the_place_of_its_parameter():
    app = typer.Typer()

    @command(app, "list")
    def show(first_of_all: str, period: Period, as_text: bool = False, *, rows: RowFormat) -> None: ...

    [registered] = app.registered_commands
    options = list(inspect.signature(registered.callback).parameters)
    assert options == ["first_of_all", "day", "first", "last", "as_text", "as_json", "as_csv"]


def test_a_command_gets_the_values_of_a_group():
    app, seen = typer.Typer(), []

    @command(app, "list")
    def show(name: str, period: Period, as_json: JsonOption = False) -> None:
        seen.append((name, period, as_json))

    given = ["gate", "--from", "2026-01-09", "--json"]
    assert CliRunner().invoke(app, given).exit_code == 0
    assert seen == [("gate", Period(None, "2026-01-09", None), True)]


def test_a_topic_keeps_its_topic_of_notices(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_KAFKA_TOPIC", "frames,yard,yard-notices")
    assert topic_settings("yard") == {"kafka_topics": ("yard", "yard-notices")}
    assert topic_settings("frames") == {"kafka_topics": ("frames",)}
    assert topic_settings(None) == {}


def test_lists_and_examples_keep_their_lines():
    one = typer.Typer()

    def documented() -> None:
        """Does it.

        A paragraph
        of two lines.

        * first
        * second
        """

    command(one, "it")(documented)
    assert one.registered_commands[0].help == "Does it.\n\nA paragraph of two lines.\n\n* first\n* second"


def test_progress_shows_a_file_name_with_brackets(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(output, "stderr_console", lambda: Console(file=terminal, force_terminal=True, width=160))
    with output.progress_bar("Ingesting yard[red][/x].mp4", unit="frames") as progress:
        progress(1, 2)
    assert "Ingesting yard[red][/x].mp4" in terminal.getvalue()


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
