"""What publishing costs at the sources: each source beside a plain loop, many cameras on one machine, and overload.

A source adds itself to `_SOURCES`: a function that takes the servers and the effort, and returns a JSON document with
the key `kind`, by which `source_tables` makes its table.
"""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.effort import Effort
from benchmarks.place import Place, say
from benchmarks.source_cameras import measure_camera_overload, measure_camera_ratio, measure_cameras

_SOURCES: Mapping[str, Callable[[Place, Effort], dict[str, Any]]] = {
    "rtsp": measure_camera_ratio,
    "cameras": measure_cameras,
    "overload": measure_camera_overload,
}


def measure_sources(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures all sources.

    Returns:
        What each measured, by its name.
    """
    results: dict[str, Any] = {}
    for name, measure in _SOURCES.items():
        results[name] = measure(place, effort)
        say(f"sources: {name} done")
    return results
