"""Dagster's storage for sensors, opened once in a code server instead of once a tick.

Opening it makes Dagster read all of its database migrations: more than half of the CPU of a tick with nothing to do.
"""

import threading

import dagster as dg

from imgpipeline.defs.dagster_internals import InstanceRef

_lock = threading.Lock()
_kept: list[tuple[InstanceRef, dg.DagsterInstance]] = []


def kept_instance(context: dg.SensorEvaluationContext) -> dg.DagsterInstance:
    """Returns the storage that a tick works on; ticks of the same code server share it.

    Args:
        context: The tick. One that was made with an instance of its own, as in tests, keeps it.
    """
    ref = context.instance_ref
    if ref is None:
        return context.instance
    with _lock:
        if not _kept or _kept[0][0] != ref:
            _kept[:] = [(ref, dg.DagsterInstance.from_ref(ref))]
        return _kept[0][1]
