"""Free loopback ports.

Ports are drawn from below the range that Linux gives to outgoing connections (32768 and up). So a server that is
stopped and started again finds its port still free, and two test sessions at once seldom draw the same one.
"""

import random
import socket
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = 20_000, 32_000
_LISTEN = "0A"  # the kernel's number of that TCP state


def free_port() -> int:
    """Return a port on which nothing listens now.

    Raises:
        OSError: No free port was found in a thousand draws.
    """
    draw = random.SystemRandom()
    for _ in range(1000):
        port = draw.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {_FIRST} and {_LAST}")


def listens(pid: int, port: int) -> bool:
    """Tell whether the process listens on the port, by the kernel's tables (proc(5), `net/tcp` and `fd`)."""
    listening = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    try:
        return any(str(link.readlink()) in listening for link in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # the process ended, or closed the file, while we looked
        return False


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                yield fields[9]
