"""Mapper: `timestamp,detected_label,confidence` to `LABEL<TAB>1`."""

import sys
from collections.abc import Iterable, Iterator


def run(lines: Iterable[bytes]) -> Iterator[str]:
    for line in lines:
        text = line.strip()
        if not text or text.startswith(b"timestamp"):
            continue
        try:
            _, field, _ = text.split(b",")
            label = field.decode().strip().upper()
        except ValueError:
            continue
        if label and "\t" not in label:
            yield f"{label}\t1\n"


if __name__ == "__main__":
    for line in run(sys.stdin.buffer):
        sys.stdout.buffer.write(line.encode())
