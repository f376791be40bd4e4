"""Logs: their setting, and one JSON object per line for log collectors, with fields from the `extra` of a call."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

from imgpipeline.contracts.times import format_time
from imgpipeline.settings.variables import PREFIX, SettingsGroup

LOG_FORMAT = f"{PREFIX}LOG_FORMAT"
NOTES = logging.getLogger("imgpipeline.notes")
"""Logs what commands otherwise write to stderr as text."""
OF_PROCESS: dict[str, object] = {}
"""Fields of every line of this process, such as its run."""
_FIELDS = ("run", "source", "topic", "partition", "offset")


class LogSettings(SettingsGroup):
    """Logs."""

    log_format: Literal["text", "json"] = "text"
    """`json`: commands and the code server log one JSON object per line, unless stderr is a terminal."""


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": format_time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **OF_PROCESS,
            **{name: value for name, value in vars(record).items() if name in _FIELDS},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def writes_json() -> bool:
    """Tells whether this process logs JSON."""
    return any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.getLogger().handlers)


def start_logging(wanted: str | None, level: int) -> None:
    """Logs to stderr, in the format that the setting names."""
    form = _JsonFormatter if wanted == "json" and not sys.stderr.isatty() else logging.Formatter
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    NOTES.setLevel(logging.INFO)
