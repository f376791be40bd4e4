"""`dagster-daemon run` that dies at a planned phase of a tick of the Kafka sensor.

Dagster names the phases of a tick for its own tests (a tick is created, run ids are reserved, a run is created, …).
Here each is a step of a fault plan, such as `daemon run created=kill`. Started as a module, with the options of
`dagster-daemon run`.
"""

import functools
import sys

from dagster._daemon import sensor
from dagster._daemon.cli import run_command

from imgpipeline.faultpoints import reach

DAEMON_PHASES = ("tick created", "tick held", "run ids reserved", "run created", "run launched")
"""In their order. Between the second and the third, the sensor's own code runs in the code server."""


class _Steps:
    """Stands where Dagster's tests give a signal for each phase."""

    def get(self, phase: str) -> None:
        """Reach the step that a phase stands for."""
        reach(f"daemon {phase.lower().replace('_', ' ')}")


if __name__ == "__main__":
    sensor.execute_sensor_iteration = functools.partial(
        sensor.execute_sensor_iteration, debug_crash_flags={"frames_sensor": _Steps()}
    )
    sys.exit(run_command())
