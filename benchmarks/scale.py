"""What a site of a given size needs, where each part ends, and which settings it should change.

    python -m benchmarks.scale                the tables of docs/scale.md
    python -m benchmarks.scale --write        put them into docs/scale.md
    python -m benchmarks.scale --measure      compare the model with a simulated site of 1,000 partitions

Each constant names its source. Figures of docs/performance.json come from two cores; a machine here has 16.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from math import ceil, log10
from pathlib import Path

from benchmarks.report import Table
from imgpipeline.detect.sensor_memory import MOST_ASKED, OTHERS_ASKED
from imgpipeline.settings import Settings
from imgpipeline.settings.sizes import LONG_COMMIT_INTERVAL_S, LONG_RUN_S, MANY_LANES, MANY_PARTITIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
_PLACE = re.compile(r"(<!-- sizes -->\n).*?(<!-- end of sizes -->)", re.DOTALL)
_DAY_S = 86_400

CORES_A_MACHINE, CORES_A_LANE = 16, 2
"""Assumed; that of docs/performance.json."""
LANE_FRAMES_A_S = 107.5
"""docs/performance.json, classic: YOLOX-nano with Kafka and S3 server on the same two cores, the slower processor."""
RTSP_FRAMES_A_S = 213.0
"""docs/performance.json, sources: RTSP cameras on two cores."""
HEADROOM = 1.5
"""Assumed: after an outage, detection catches up in twice the time of the outage."""
PARTITIONS_A_LANE = 3
"""Assumed, so that lanes can be added later."""
IMAGE_BYTES = 60_000
"""docs/site.md, Sizing: 640x360, JPEG quality 90."""
TABLE_BYTES_A_FRAME = 122
"""docs/performance.json, growth."""
OFFSETS_OF_INDEX = 1_000
"""docs/site.md, Sizing: one object of the day index per 1,000 offsets of a partition."""
READS_A_SEGMENT = 2
"""By the day tables, and by the bundles."""
RUN_CPU_S = 2.49
"""docs/performance.json, idle: a detection run with nothing to read."""
BUILD_S_A_FRAME = 8.62e-6
"""docs/performance.json, batch: a day of 1,000,000 frames in long segments, on two cores."""
BUILD_S_A_SEGMENT = 16.18 / 16_000
"""docs/performance.json, growth: first build of a day of short segments."""
REQUESTS_OF_BUILD_A_CHAIN = 4
"""`--measure`: requests of a build for each chain, besides one for each segment."""
REWRITE_S_A_FRAME = 1.78 / (64_000 * 5)
"""docs/performance.json, growth: the build after one more segment of a day of 64,000 segments of 5 frames."""
SERVICES_GB, RUN_GB, CAMERA_GB = 0.32 + 0.11 + 2 * 0.17 + 0.15 + 0.28, 0.27, 0.086
"""docs/site.md, Sizing; the services are code server and proxy, daemon and web server, sources, viewer."""
SITE_EVENT_BYTES_A_DAY = 16e6 * 24
"""docs/site.md, Sizing: PostgreSQL of a site with one lane, at any rate of frames."""
RUN_EVENT_BYTES, REPORT_EVENT_BYTES = 9_400, 1_840
"""`--measure`: events of a run without reports, in one process; the materialization by each lane once a minute."""
TICK_S = 5
"""defs/frames_sensor.py."""
REQUESTS_A_CHAIN_END = 2
"""`--measure`: one listing and one read, to find the end of a chain."""
TICK_S_A_CHAIN = 0.0037
"""`--measure`: seconds of the sensor for each end, on two cores with the S3 server."""
PUT_USD, GET_USD = 5e-6, 4e-7
"""List prices of S3 Standard in us-east-1 (a PUT, a LIST; a GET), not verified here."""
CATALOGUE_PARTS = 20_000
"""Assumed: at most so many parts in a day's redetection, as 10^7 frames have with the default of 500."""
DEFAULTS = Settings.model_fields
"""The defaults of the settings."""


@dataclass(frozen=True, slots=True)
class Site:
    """A site, and what it needs. Cameras have the same rate, day and night."""

    cameras: int
    frames_a_day: float

    @property
    def frames_a_s(self) -> float:
        """Frames per second of all cameras."""
        return self.frames_a_day / _DAY_S

    @property
    def lanes(self) -> int:
        """Detection runs at the same time, each on two cores."""
        return ceil(self.frames_a_s * HEADROOM / LANE_FRAMES_A_S)

    @property
    def partitions(self) -> int:
        """Partitions of the topic."""
        return self.lanes * PARTITIONS_A_LANE

    @property
    def busy_partitions(self) -> float:
        """Partitions with traffic, expected: the key of a record is its camera, and keys are hashed."""
        return self.partitions * (1 - (1 - 1 / self.partitions) ** self.cameras)

    @property
    def machines(self) -> tuple[int, int]:
        """Machines for detection, and for RTSP sources."""
        sources = self.frames_a_s / RTSP_FRAMES_A_S * 2
        return ceil(self.lanes * CORES_A_LANE / CORES_A_MACHINE), ceil(sources / CORES_A_MACHINE)

    @property
    def max_run_s(self) -> float:
        """Recommended `IMGPIPELINE_MAX_RUN_S`."""
        return LONG_RUN_S if self.lanes > MANY_LANES else DEFAULTS["max_run_s"].default

    @property
    def commit_interval_s(self) -> float:
        """Recommended `IMGPIPELINE_COMMIT_INTERVAL_S`."""
        return LONG_COMMIT_INTERVAL_S if self.partitions > MANY_PARTITIONS else DEFAULTS["commit_interval_s"].default

    @property
    def redetect_part_frames(self) -> int:
        """Recommended `IMGPIPELINE_REDETECT_PART_FRAMES`."""
        return max(DEFAULTS["redetect_part_frames"].default, ceil(self.frames_a_day / CATALOGUE_PARTS))

    @property
    def runs_a_day(self) -> float:
        """Detection runs."""
        return self.lanes * _DAY_S / self.max_run_s

    @property
    def event_bytes_a_day(self) -> float:
        """What Dagster's database grows by: the services, the runs, and a report of each lane in each minute."""
        reports = self.lanes * _DAY_S / 60
        return SITE_EVENT_BYTES_A_DAY + self.runs_a_day * RUN_EVENT_BYTES + reports * REPORT_EVENT_BYTES

    @property
    def segments_a_day(self) -> float:
        """At most one per interval and partition, one per frame, and none longer than `segment_max_records`."""
        by_time = self.busy_partitions * _DAY_S / self.commit_interval_s
        fewest = self.frames_a_day / DEFAULTS["segment_max_records"].default
        return max(min(by_time, self.frames_a_day), fewest)

    @property
    def ledger_requests_a_day(self) -> tuple[float, float]:
        """Writes and listings, and reads; the sensor reads the ends of some chains in each tick."""
        searches = min(self.busy_partitions, MOST_ASKED + OTHERS_ASKED) * _DAY_S / TICK_S
        writes = self.segments_a_day + self.frames_a_day / OFFSETS_OF_INDEX + searches
        return writes, READS_A_SEGMENT * self.segments_a_day + searches * (REQUESTS_A_CHAIN_END - 1)


SITES = tuple(starmap(Site, ((1, 1e6), (10, 1e6), (10, 1e7), (100, 1e7), (100, 1e8), (1_000, 1e8), (1_000, 1e9))))
"""Each rate with as few cameras as can make it at 12 frames/s, and with ten times as many."""


def build_s(frames: float, segments: float) -> float:
    """Returns the seconds that building a day from its segments takes on two cores."""
    return frames * BUILD_S_A_FRAME + segments * BUILD_S_A_SEGMENT


def tables() -> list[Table]:
    """Returns the tables of docs/scale.md."""
    return [_by_site(caption, columns) for caption, columns in _TABLES.items()] + [_limits()]


def _by_site(caption: str, columns: Mapping[str, Callable[[Site], str]]) -> Table:
    all_columns = {"cameras": lambda site: f"{site.cameras:,}", "frames a day": _frames, **columns}
    rows = [[column(site) for column in all_columns.values()] for site in SITES]
    return Table(list(all_columns), rows, caption)


def _limits() -> Table:
    most = DEFAULTS["takeover_s"].default * MOST_ASKED / TICK_S
    ticks = TICK_S_A_CHAIN * (MOST_ASKED + OTHERS_ASKED)
    lanes = 1_000 * LANE_FRAMES_A_S / HEADROOM * _DAY_S
    runs = MANY_LANES * _DAY_S / DEFAULTS["max_run_s"].default
    segments_usd = _DAY_S * (PUT_USD + READS_A_SEGMENT * GET_USD)
    rows = [
        ("lanes", f"{LANE_FRAMES_A_S:g} frames/s for each, on two cores", f"{_count(lanes)} frames a day (1,000 lanes)",
         "a GPU for each lane, or several sites"),
        ("sensor", f"reads {MOST_ASKED} ends in a tick of {TICK_S} s, {ticks:.1f} s", f"{most:,.0f} partitions",
         "it may see progress too late and take over healthy runs: raise `IMGPIPELINE_TAKEOVER_S`"),
        ("runs", f"{RUN_CPU_S} CPU s to start, {_bytes(RUN_EVENT_BYTES)} of events",
         f"{MANY_LANES} lanes: {runs:,.0f} runs a day of 15 minutes", "raise `IMGPIPELINE_MAX_RUN_S`"),
        ("reports", f"{_bytes(_DAY_S / 60 * REPORT_EVENT_BYTES)} of events a day for each lane", "no limit",
         "delete old runs ([Housekeeping](site.md#housekeeping))"),
        ("segments", f"{segments_usd:.2f} USD a day for each partition", f"{MANY_PARTITIONS} partitions",
         "raise `IMGPIPELINE_COMMIT_INTERVAL_S`; frames can be queried that much later"),
        ("whole build of a day", f"{_duration(build_s(1e8, 1e5))} for 10^8 frames in segments of 1,000",
         f"{_count(_DAY_S / BUILD_S_A_FRAME)} frames a day", "more cores, or several sites"),
        ("today's tables", f"{_duration(1e6 * REWRITE_S_A_FRAME)} for one more segment after 10^6 frames",
         f"{_count(_DAY_S / 24 / REWRITE_S_A_FRAME)} frames a day: one build an hour",
         "queries read newer frames from the ledger, which takes longer"),
        ("images", f"{(PUT_USD + GET_USD) * 1e6:.2f} USD and {_bytes(IMAGE_BYTES * 1e6)} for 10^6 frames",
         "no limit; costs more than all else", "a store without a price for requests; gates"),
    ]  # fmt: skip
    return Table(("part", "figure", "ends at", "then"), rows, "Where each part ends:")


def _frames(site: Site) -> str:
    return f"10^{log10(site.frames_a_day):.0f}"


def _count(number: float) -> str:
    return f"{number:,.0f}" if number < 1e6 else f"{number / 1e6:,.1f} million"


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1e3:,.0f} kB"


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} h"


def _usd(writes: float, reads: float) -> str:
    return f"{writes * PUT_USD + reads * GET_USD:,.2f}"


_TABLES: Mapping[str, Mapping[str, Callable[[Site], str]]] = {
    "What a site needs:": {
        "frames/s": lambda site: f"{site.frames_a_s:,.0f}",
        "partitions": lambda site: f"{site.partitions:,}",
        "lanes": lambda site: f"{site.lanes:,}",
        "machines: detection": lambda site: str(site.machines[0]),
        "RTSP sources": lambda site: str(site.machines[1]),
        "memory": lambda site: f"{SERVICES_GB + site.lanes * RUN_GB + site.cameras * CAMERA_GB:,.0f} GB",
        "images a day": lambda site: _bytes(site.frames_a_day * IMAGE_BYTES),
        "tables a day": lambda site: _bytes(site.frames_a_day * TABLE_BYTES_A_FRAME),
        "a whole day's build": lambda site: _duration(build_s(site.frames_a_day, site.segments_a_day)),
    },
    "What it does in a day, with the settings of the next table:": {
        "runs": lambda site: f"{site.runs_a_day:,.0f}",
        "events of Dagster": lambda site: _bytes(site.event_bytes_a_day),
        "segments": lambda site: _count(site.segments_a_day),
        "requests of the ledger": lambda site: _count(sum(site.ledger_requests_a_day)),
        "their cost, USD": lambda site: _usd(*site.ledger_requests_a_day),
        "cost of a PUT and a GET for each image, USD": lambda site: _usd(site.frames_a_day, site.frames_a_day),
    },
    "The settings to use, and the `limit` of detection in `dagster.yaml`:": {
        "`IMGPIPELINE_LANES`": lambda site: str(site.lanes),
        "`IMGPIPELINE_MAX_RUN_S`": lambda site: f"{site.max_run_s:g}",
        "`IMGPIPELINE_COMMIT_INTERVAL_S`": lambda site: f"{site.commit_interval_s:g}",
        "`IMGPIPELINE_REDETECT_PART_FRAMES`": lambda site: str(site.redetect_part_frames),
        "`limit`": lambda site: str(max(16, site.lanes)),
    },
}


def render(page: str, filled: Sequence[Table]) -> str:
    """Writes the tables between the page's markers."""
    drawn = "\n\n".join(table.render() for table in filled)
    return _PLACE.sub(lambda place: f"{place[1]}{drawn}\n{place[2]}", page)


def main() -> None:
    """Prints, writes or checks the model."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="Compute what sites need.")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    parser.add_argument("--measure", action="store_true", help="compare the model with 1,000 simulated partitions")
    chosen = parser.parse_args()
    if chosen.measure:
        from benchmarks.scale_check import measure_scale  # noqa: PLC0415 - imports the servers and Dagster

        print(measure_scale().render())
    elif chosen.write:
        PAGE.write_text(render(PAGE.read_text(encoding="utf-8"), tables()), encoding="utf-8")
    else:
        print("\n\n".join(table.render() for table in tables()))


if __name__ == "__main__":
    main()
