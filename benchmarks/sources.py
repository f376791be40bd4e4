"""What publishing costs at the sources: each source beside a plain loop, many cameras on one machine, and overload.

A source adds itself to `_SOURCES`: a function that takes the servers and the effort, and returns a JSON document with
the key `kind`, by which `source_tables` makes its table.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.effort import Effort
from benchmarks.place import Place, say
from benchmarks.source_cameras import measure_camera_overload, measure_camera_ratio, measure_cameras
from benchmarks.source_files import measure_bucket, measure_file_sources
from benchmarks.source_messages import measure_bare_http, measure_http, measure_mqtt

_SOURCES: Mapping[str, Callable[[Place, Effort], dict[str, Any]]] = {
    "folder to S3": partial(measure_file_sources, "folder", False),
    "folder to a local folder": partial(measure_file_sources, "folder", True),
    "sequence to S3": partial(measure_file_sources, "sequence", False),
    "sequence to a local folder": partial(measure_file_sources, "sequence", True),
    "video to S3": partial(measure_file_sources, "video", False),
    "video to a local folder": partial(measure_file_sources, "video", True),
    "s3 prefix": measure_bucket,
    "mqtt to S3": partial(measure_mqtt, False),
    "mqtt to a local folder": partial(measure_mqtt, True),
    "http to S3": partial(measure_http, False),
    "http to a local folder": partial(measure_http, True),
    "http to a local folder, beside a bare route": measure_bare_http,
    "rtsp": measure_camera_ratio,
    "cameras": measure_cameras,
    "overload": measure_camera_overload,
}

SOURCES = tuple(_SOURCES)


def measure_sources(place: Place, effort: Effort) -> dict[str, Any]:
    """Measures the chosen sources, or all of them.

    Returns:
        What each measured, by its name.
    """
    results: dict[str, Any] = {}
    for name, measure in _SOURCES.items():
        if not effort.sources or name in effort.sources:
            results[name] = measure(place, effort)
            say(f"sources: {name} done")
    return results
