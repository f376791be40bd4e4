"""Mapper: documents of frames, a line each (or one document over all lines), to `label@hour<TAB>time`."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import date

TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")

HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def parse(text: str) -> object:
    """Return the value of a JSON text; None where it is none, or holds text that is no Unicode."""
    try:
        value = json.loads(text)
        if HALF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def texts_of(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        try:
            text = line.decode().strip(" \t\r\n")
        except UnicodeDecodeError:
            text = "broken"
        if text:
            yield text


def documents(lines: Iterable[bytes]) -> Iterator[object]:
    """Yield a document a line; where the first line is none, all lines may be one."""
    texts = texts_of(lines)
    first = next(texts, "null")
    if parse(first) is None and first != "null":
        rest = list(texts)
        whole = parse(" ".join([first, *rest]))
        yield from [whole] if whole is not None else map(parse, rest)
        return
    yield parse(first)
    yield from map(parse, texts)


def pairs(document: object) -> Iterator[tuple[str, str]]:
    if not isinstance(document, dict):
        return
    time, found = document.get("processing_timestamp"), document.get("detections")
    match = TIME.match(time) if isinstance(time, str) else None
    if match is None or not isinstance(found, list) or not is_date(*map(int, match.groups()[:3])):
        return
    for detection in found:
        label = detection.get("label") if isinstance(detection, dict) else None
        if isinstance(label, str) and label and not re.search(r"[\t\r\n]", label):
            yield f"{label}@{time[:10]} {time[11:13]}:00", f"{time[:10]}T{time[11:19]}"


def is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def run(lines: Iterable[bytes]) -> Iterator[str]:
    for document in documents(lines):
        for key, value in pairs(document):
            yield f"{key}\t{value}\n"


if __name__ == "__main__":
    for line in run(sys.stdin.buffer):
        sys.stdout.buffer.write(line.encode())
