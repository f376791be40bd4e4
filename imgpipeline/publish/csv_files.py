"""Appends results to a CSV file, as classic detectors and trackers do: rows only where something was found.

`FILE.checkpoint` says how long the file was when the ledger was published up to a checkpoint. Rows that a killed
process has written after that are cut off, and published again.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from imgpipeline.contracts.text import csv_text
from imgpipeline.errors import ConfigurationError
from imgpipeline.faultpoints import reach
from imgpipeline.publish.transactions import Publication, ResultBatch, ResultPublisher, Run, State, publish_batches

_FRAME = ("frame_id", "video_id", "timestamp")
_COLUMNS = {
    "detections": (*_FRAME, "label", "confidence", "x1", "y1", "x2", "y2"),
    "tracks": (*_FRAME, "track_id", "x1", "y1", "x2", "y2", "confidence", "class_id"),
}


def publisher_of(
    wanted: Publication, result: str, parse: Callable[[Any], State], start: Callable[[], State]
) -> "ResultPublisher[State] | CsvPublisher[State]":
    """Returns what publishes one kind of result on the topic or in the file."""
    name = wanted.name_of(result)
    if wanted.file is None:
        return ResultPublisher(wanted.topic, name, parse, start)
    return CsvPublisher(wanted.file, name, parse, start)


@dataclass(frozen=True, slots=True)
class CsvPublisher(Generic[State]):
    """Appends one kind of result in classic form to a file; the fields are those of `ResultPublisher`."""

    file: Path
    name: str
    parse: Callable[[Any], State]
    start: Callable[[], State]

    def run(self, run: Run, batches: Callable[[State], Iterable[ResultBatch]]) -> int:
        """Appends, and returns the number of frames; `batches` is that of `ResultPublisher.run`.

        Raises:
            ConfigurationError: The file cannot be written, has other results, or another process appends to it.
        """
        try:
            with self.file.open("ab") as locked:
                fcntl.flock(locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
                state = self._resume()
                return publish_batches(run, lambda: batches(state), self._append)
        except OSError as error:
            is_locked = isinstance(error, BlockingIOError)
            reason = "another process appends to it" if is_locked else error.strerror or error
            raise ConfigurationError(
                f"{self.file} cannot be written: {reason}.", next_step="name a file that only this command writes"
            ) from error

    @property
    def _checkpoint(self) -> Path:
        return self.file.with_name(f"{self.file.name}.checkpoint")

    def _resume(self) -> State:
        """Cuts off the rows after the checkpoint, unless this is another file, and returns its state."""
        now = self.file.stat()
        if not self._checkpoint.exists():
            self._save(now, None)
        try:
            found = json.loads(self._checkpoint.read_text(encoding="utf-8"))
            name, (inode, size_bytes) = found["name"], found["file"]
            state = self.start() if found["state"] is None else self.parse(found["state"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self._checkpoint} is not a checkpoint of a publisher.", next_step="give another file"
            ) from error
        if name != self.name:
            raise ConfigurationError(f"{self.file} has {name}, not {self.name}.", next_step="give another file")
        if inode == now.st_ino and size_bytes < now.st_size:
            os.truncate(self.file, size_bytes)
        return state

    def _append(self, batch: ResultBatch) -> None:
        columns = _COLUMNS["detections" if self.name.startswith("detections") else "tracks"]
        text = csv_text(columns, [row for record in batch.records for row in _rows(json.loads(record.value))])
        with self.file.open("ab") as file:  # again for each batch, because a log rotation may have moved it away
            file.write((text.partition("\n")[2] if file.tell() else text).encode())
            file.flush()
            os.fsync(file.fileno())
            reach("rows appended", self.file.name)
            self._save(os.fstat(file.fileno()), batch.state)

    def _save(self, file: os.stat_result, state: object) -> None:
        unfinished = self._checkpoint.with_name(f"{self._checkpoint.name}.unfinished")
        unfinished.write_text(json.dumps({"name": self.name, "file": [file.st_ino, file.st_size], "state": state}))
        unfinished.replace(self._checkpoint)


def _rows(document: dict[str, Any]) -> Iterator[list[Any]]:
    named = [document["frame_id"], document["video_id"], document["timestamp"].removesuffix("+00:00")]
    for found in document.get("detections", ()):
        yield [*named, found["label"], found["confidence"], *found["bbox"]]
    for found in document.get("tracks", ()):
        yield [*named, found["track_id"], *found["bbox"], found["confidence"], found["class_id"]]
