"""Named steps at which a test kills or stops the process, to prove that nothing is lost or duplicated.

Off in production: without the variable `IMGPIPELINE_FAULT_AT`, `reach` does nothing. With it, the process kills itself
(SIGKILL, like a power cut) or stops itself (SIGSTOP, like a hang) at the planned steps. docs/reliability.md lists what
must hold afterwards.

A plan is one or several faults, separated by `;`: `STEP[:N][~TEXT]=ACTION`, such as `segment put:3=kill` (when this
process reaches that step for the third time) or `look~poison.jpg=segfault` (when the step's detail contains that text).
`IMGPIPELINE_FAULT_ONCE` may name a folder: then each fault happens once for all processes that share the folder, and
leaves a file there by which a test can tell that it has happened.
"""

import ctypes
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from imgpipeline.errors import ConfigurationError

PLAN_VARIABLE = "IMGPIPELINE_FAULT_AT"
ONCE_VARIABLE = "IMGPIPELINE_FAULT_ONCE"
_FAULT = re.compile(r"(?P<step>[a-z ]+)(?::(?P<count>\d+))?(?:~(?P<text>[^=]+))?=(?P<action>[a-z]+)")

_ACTIONS: Mapping[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "segfault": lambda: ctypes.string_at(0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong on purpose."""

    text: str
    """As written in the plan."""
    step: str
    """Name of the step, as it is given to `reach`."""
    count: int
    """At which time that the step is reached (with this detail), from 1; 0: each time."""
    detail: str
    """What the step's detail must hold; empty: anything."""
    action: str
    """`kill`, `stop` or `segfault`."""


@dataclass(slots=True)
class FaultPlan:
    """The faults of one process. `reach` may be called from several threads."""

    faults: tuple[Fault, ...]
    """What is planned."""
    once: Path | None = None
    """Folder where each fault is noted before it happens, so that it happens once; None: in each process."""
    _reached: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, step: str, detail: str) -> None:
        """Does what is planned for a step, which is mostly nothing."""
        for fault in self.faults:
            if fault.step == step and fault.detail in detail and self._is_its_turn(fault):
                _ACTIONS[fault.action]()

    def _is_its_turn(self, fault: Fault) -> bool:
        with self._lock:
            self._reached[fault.text] += 1
            if fault.count not in (0, self._reached[fault.text]):
                return False
        if self.once is None:
            return True
        try:
            note_of(self.once, fault.text).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def note_of(once: Path, fault: str) -> Path:
    """Returns the file that is there once a fault of a plan has happened."""
    return once / f"fault-{sha256(fault.encode()).hexdigest()[:16]}"


def parse_plan(text: str, once: Path | None = None) -> FaultPlan:
    """Reads a plan.

    Raises:
        ConfigurationError: It is not one.
    """
    faults = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _FAULT.fullmatch(part)
        if match is None or match["action"] not in _ACTIONS:
            raise ConfigurationError(
                f"{PLAN_VARIABLE} has {part!r}; expected STEP[:N][~TEXT]=ACTION with one of {', '.join(_ACTIONS)}.",
                next_step=f"unset {PLAN_VARIABLE}: it is for tests only",
            )
        faults.append(Fault(part, match["step"], int(match["count"] or 0), match["text"] or "", match["action"]))
    return FaultPlan(tuple(faults), once)


def _plan_of_environment() -> FaultPlan | None:
    text, once = os.environ.get(PLAN_VARIABLE), os.environ.get(ONCE_VARIABLE)
    return parse_plan(text, Path(once) if once else None) if text else None


_PLAN = _plan_of_environment()


def reach(step: str, detail: str = "") -> None:
    """Tells that a named step is reached. Does nothing, unless a test has planned a fault here.

    Args:
        step: Name of the step; lower-case words.
        detail: What the step is about, such as a key.
    """
    if _PLAN is not None:
        _PLAN.reach(step, detail)
