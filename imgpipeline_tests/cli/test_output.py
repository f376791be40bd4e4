"""Text from outside appears on the terminal exactly as it is."""

import io

import pytest
from rich.console import Console

from imgpipeline.cli import output


def test_progress_shows_a_file_name_with_brackets(monkeypatch: pytest.MonkeyPatch):
    terminal = io.StringIO()
    monkeypatch.setattr(output, "stderr_console", lambda: Console(file=terminal, force_terminal=True, width=160))
    with output.progress_bar("Ingesting yard[red][/x].mp4", unit="frames") as progress:
        progress(1, 2)
    assert "Ingesting yard[red][/x].mp4" in terminal.getvalue()
