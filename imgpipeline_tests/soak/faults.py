"""What goes wrong during a soak, chosen by chance."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping

from imgpipeline_tests.faults.child_runs import state_of
from imgpipeline_tests.servers.processes import Server
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.soak.place import TAKEOVER_S, Place

Fault = Callable[[Place, random.Random], str]
"""Breaks something, mends it where nothing else would, and says what it did."""


def kill_a_run(place: Place, chance: random.Random) -> str:
    """`kill -9` of a detection run."""
    return _signal_a_run(place, chance, signal.SIGKILL)


def end_a_run(place: Place, chance: random.Random) -> str:
    """SIGTERM to a detection run, as a machine that shuts down sends it."""
    return _signal_a_run(place, chance, signal.SIGTERM)


def let_a_run_sleep(place: Place, chance: random.Random) -> str:
    """SIGSTOP for as long as it takes another run to take over, then SIGCONT where it still lives."""
    pids = place.run_processes()
    if not pids:
        return "no run was at work"
    pid = chance.choice(pids)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(TAKEOVER_S + 4)
    return f"process {pid} slept" + ("" if _send(pid, signal.SIGCONT) else " and was taken over")


def kill_everything_of_dagster(place: Place, chance: random.Random) -> str:
    """`kill -9` of daemon, code server and runs; then a new daemon."""
    place.kill_daemons()
    time.sleep(chance.uniform(0, 3))
    place.start_daemon()
    return "a new daemon is there"


def start_a_second_daemon(place: Place, chance: random.Random) -> str:
    """A second daemon beside the first for a while; then the first is killed."""
    place.start_daemon()
    time.sleep(chance.uniform(5, 10))
    first, *others = place.site.daemons
    first.kill()
    place.killed_daemons += 1
    place.site.daemons[:] = others
    return "the first one was killed"


def restart_the_broker(place: Place, chance: random.Random) -> str:
    """`kill -9` of the broker, which comes back after some seconds."""
    return _restart(place.broker, chance)


def restart_the_store(place: Place, chance: random.Random) -> str:
    """`kill -9` of the object store, which comes back after some seconds."""
    return _restart(place.store, chance)


def cut_the_store_off(place: Place, chance: random.Random) -> str:
    """All connections to the object store are closed and refused, for longer than a request's patience."""
    place.proxy.disconnect()
    away_s = chance.uniform(2, 25)
    time.sleep(away_s)
    place.proxy.reconnect()
    return f"for {away_s:.1f} s"


def slow_the_store_down(place: Place, chance: random.Random) -> str:
    """Every answer of the object store comes late."""
    latency_ms = chance.randrange(50, 800)
    with place.proxy.fault("latency", latency=latency_ms, jitter=latency_ms // 2):
        time.sleep(12)
    return f"by {latency_ms} ms"


def lose_answers_of_the_store(place: Place, chance: random.Random) -> str:
    """The object store does what it is asked, and its answers are lost; connections are reset."""
    with place.proxy.fault("reset_peer", timeout=chance.randrange(0, 50)):
        time.sleep(6)
    return "for 6 s"


FAULTS: Mapping[str, Fault] = {
    "kill -9 of a run": kill_a_run,
    "SIGTERM to a run": end_a_run,
    "a run sleeps": let_a_run_sleep,
    "kill -9 of daemon, code server and runs": kill_everything_of_dagster,
    "two daemons": start_a_second_daemon,
    "kill -9 of the broker": restart_the_broker,
    "kill -9 of the store": restart_the_store,
    "the store is cut off": cut_the_store_off,
    "the store is slow": slow_the_store_down,
    "answers of the store are lost": lose_answers_of_the_store,
}


def _restart(server: Server, chance: random.Random) -> str:
    server.kill()
    away_s = chance.uniform(0, 8)
    time.sleep(away_s)
    server.start()
    return f"it was away for {away_s:.1f} s"


def _signal_a_run(place: Place, chance: random.Random, number: signal.Signals) -> str:
    pids = place.run_processes()
    if not pids:
        return "no run was at work"
    pid = chance.choice(pids)
    if not _send(pid, number):
        return f"process {pid} had just ended"
    wait_until(lambda: state_of(pid) in ("", "X", "Z"), limit_s=60, what=f"the end of process {pid}")
    return f"process {pid}"


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
