"""Posts images to an HTTP source, eight at a time, and prints how many per second: `python -m benchmarks.http_clients`.

A process of its own, so that it does not share an interpreter with the server that is measured. Arguments: the port,
and the folder of images.
"""

import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

_CLIENTS = 8
_CREATED = 201
_START = datetime(2026, 1, 9, 12, tzinfo=UTC)


def post_all(port: int, images: list[bytes]) -> float:
    """Posts images over kept connections and returns how many per second were answered.

    Raises:
        RuntimeError: One was not accepted.
    """
    refused: list[str] = []

    def post(first: int) -> None:
        connection = HTTPConnection("127.0.0.1", port)
        for number in range(first, len(images), _CLIENTS):
            query = urlencode({"timestamp": (_START + timedelta(seconds=number)).isoformat(), "number": number})
            connection.request("POST", f"/frames/camera?{query}", images[number], {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != _CREATED:
                refused.append(f"{answer.status}: {said!r}")
                return

    threads = [threading.Thread(target=post, args=(first,)) for first in range(_CLIENTS)]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise RuntimeError(refused[0])
    return len(images) / (time.monotonic() - began_s)


if __name__ == "__main__":
    files = sorted(Path(sys.argv[2]).iterdir())
    sys.stdout.write(str(post_all(int(sys.argv[1]), [file.read_bytes() for file in files])))
