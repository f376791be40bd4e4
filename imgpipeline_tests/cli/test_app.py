"""The command line as a whole: quick to answer, one message for an error, statuses that scripts can trust."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from imgpipeline import __version__
from imgpipeline.cli import app as cli_app
from imgpipeline.cli.output import shown
from imgpipeline.errors import ConfigurationError
from imgpipeline_tests.cli.command import Ended, all_commands, environment, interrupt
from imgpipeline_tests.cli.command import run_new as run
from imgpipeline_tests.servers.ports import LOOPBACK

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
def test_the_version_is_shown(tmp_path: Path):
    ended = run("--version", cwd=tmp_path)
    assert (ended.status, ended.stdout) == (0, f"imgpipeline {__version__}\n")


@pytest.mark.medium
@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help_load_nothing_heavy(argument: str):
    """What they cost follows from what they import."""
    command = [sys.executable, "-c", LIST_LOADED, argument]
    loaded = set(subprocess.check_output(command, env=environment(), text=True).split())
    assert "typer" in loaded
    assert not HEAVY & loaded


@pytest.mark.medium
def test_an_error_is_one_message_on_stderr_with_what_to_do_next(tmp_path: Path):
    ended = run("dead-letters", "list", "--day", "yesterday", "--json", cwd=tmp_path)
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr == "Error: --day is 'yesterday'.\nNext: give a day such as 2026-01-09\n"


@pytest.mark.medium
def test_a_wrong_setting_is_named_without_its_value(tmp_path: Path):
    ended = run("settings", env={"IMGPIPELINE_LANES": "none-of-your-business"}, cwd=tmp_path)
    assert ended.status == 1
    assert "IMGPIPELINE_LANES" in ended.stderr
    assert "none-of-your-business" not in ended.stderr


@pytest.mark.medium
@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "background"])
def test_ctrl_c_ends_with_status_130_and_no_traceback(inherited: Callable[..., Any] | signal.Handlers, tmp_path: Path):
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
def test_closing_the_pipe_early_is_not_an_error(tmp_path: Path):
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


def test_an_unexpected_error_is_one_message_and_a_traceback_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    raise_in_app(monkeypatch, ZeroDivisionError("division by zero"))
    monkeypatch.delenv("IMGPIPELINE_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli_app.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("Error: Unexpected error: ZeroDivisionError")
    monkeypatch.setenv("IMGPIPELINE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli_app.main()


def test_an_error_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
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
def test_cells_are_short_and_plain(value: object, text: str):
    assert shown(value) == text


@pytest.mark.medium
def test_every_command_has_a_help_text():
    for words, command in all_commands():
        answered = CliRunner().invoke(cli_app.app, [*words, "--help"])
        assert (answered.exit_code, "Usage:" in answered.stdout, bool(command.help)) == (0, True, True), words
