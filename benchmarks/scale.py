"""What a site of a given size needs, where each part ends, and which settings it should change.

    python -m benchmarks.scale                the tables of docs/scale.md
    python -m benchmarks.scale --write        put them into docs/scale.md
    python -m benchmarks.scale --measure      compare the model with a simulated site of 1,000 partitions

Each constant names its source. Figures of docs/performance.json come from two cores; a machine here has 16.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from benchmarks.report import Table
from imgpipeline.detect.sensor_memory import MOST_ASKED, OTHERS_ASKED
from imgpipeline.settings import Settings
from imgpipeline.settings.sizes import LONG_COMMIT_INTERVAL_S, LONG_RUN_S, MANY_LANES, MANY_PARTITIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
_PLACE = re.compile(r"(<!-- sizes -->\n).*?(<!-- end of sizes -->)", re.DOTALL)
_DAY_S = 86_400

CORES_A_MACHINE = 16
"""Assumed."""
CORES_A_LANE = 2
"""Of the machine of docs/performance.json."""
LANE_FRAMES_A_S = 107.5
"""docs/performance.json, classic: YOLOX-nano with Kafka and S3 server on the same two cores, the slower processor."""
RTSP_FRAMES_A_S = 213.0
"""docs/performance.json, sources: RTSP cameras on two cores."""
HEADROOM = 1.5
"""Assumed: after an outage, detection catches up in twice the time of the outage."""
PARTITIONS_A_LANE = 3
"""Assumed: as docs/site.md, so that lanes can be added later."""
IMAGE_BYTES = 60_000
"""docs/site.md, Sizing: 640x360, JPEG quality 90."""
TABLE_BYTES_A_FRAME = 122
"""docs/performance.json, growth."""
OFFSETS_OF_INDEX = 1_000
"""contracts/keys.py: one object of the day index per 1,000 offsets of a partition."""
READS_A_SEGMENT = 2
"""By the day tables, and by the bundles."""
BUILD_S_A_FRAME = 8.62e-6
"""docs/performance.json, batch: a day of 1,000,000 frames in long segments, on two cores."""
BUILD_S_A_SEGMENT = 16.18 / 16_000
"""docs/performance.json, growth: first build of a day of short segments."""
REQUESTS_OF_BUILD_A_CHAIN = 4
"""`--measure`: requests of a build for each chain, besides one for each segment."""
REWRITE_S_A_FRAME = 1.78 / (64_000 * 5)
"""docs/performance.json, growth: the build after one more segment of a day of 64,000 segments of 5 frames."""
SERVICES_GB = 0.32 + 0.11 + 2 * 0.17 + 0.15 + 0.28
"""docs/site.md, Sizing: code server and proxy, daemon and web server, sources, viewer."""
RUN_GB = 0.27
CAMERA_GB = 0.086
"""docs/site.md, Sizing."""
SITE_EVENT_BYTES_A_DAY = 16e6 * 24
"""docs/site.md, Sizing: PostgreSQL of a site with one lane, at any rate of frames."""
RUN_EVENT_BYTES = 9_400
"""`--measure`: the events of a run without reports, executed in one process."""
REPORT_EVENT_BYTES = 1_840
"""`--measure`: the materialization that each lane reports once a minute."""
TICK_S = 5
"""defs/frames_sensor.py."""
REQUESTS_A_CHAIN_END = 2
"""`--measure`: one listing and one read, to find the end of a chain."""
DECIDE_S_A_PAIR = 0.6e-6
"""`--measure`: seconds of the decision for each pair of a lane and a partition."""
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
        return self.frames_a_day / _DAY_S

    @property
    def lanes(self) -> int:
        """Detection runs at the same time, each on two cores."""
        return ceil(self.frames_a_s * HEADROOM / LANE_FRAMES_A_S)

    @property
    def partitions(self) -> int:
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
        return LONG_RUN_S if self.lanes > MANY_LANES else DEFAULTS["max_run_s"].default

    @property
    def commit_interval_s(self) -> float:
        return LONG_COMMIT_INTERVAL_S if self.partitions > MANY_PARTITIONS else DEFAULTS["commit_interval_s"].default

    @property
    def redetect_part_frames(self) -> int:
        return max(DEFAULTS["redetect_part_frames"].default, ceil(self.frames_a_day / CATALOGUE_PARTS))

    @property
    def runs_a_day(self) -> float:
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
    def chain_ends_a_tick(self) -> float:
        """Chains whose ends the sensor reads in one tick."""
        return min(self.busy_partitions, MOST_ASKED + OTHERS_ASKED)

    @property
    def ledger_requests_a_day(self) -> tuple[float, float]:
        """Writes and listings, and reads."""
        searches = self.chain_ends_a_tick * _DAY_S / TICK_S
        writes = self.segments_a_day + self.frames_a_day / OFFSETS_OF_INDEX + searches
        return writes, READS_A_SEGMENT * self.segments_a_day + searches * (REQUESTS_A_CHAIN_END - 1)

    @property
    def ledger_usd_a_day(self) -> float:
        writes, reads = self.ledger_requests_a_day
        return writes * PUT_USD + reads * GET_USD

    @property
    def images_usd_a_day(self) -> float:
        """One PUT by its source and one GET by its detection run."""
        return self.frames_a_day * (PUT_USD + GET_USD)

    @property
    def memory_gb(self) -> float:
        """Of all processes but table builds."""
        return SERVICES_GB + self.lanes * RUN_GB + self.cameras * CAMERA_GB

    @property
    def build_s(self) -> float:
        """A whole day from its segments, on two cores."""
        return build_s(self.frames_a_day, self.segments_a_day)


SITES = tuple(Site(cameras, frames) for cameras, frames in (
    (1, 1e6), (10, 1e6), (10, 1e7), (100, 1e7), (100, 1e8), (1_000, 1e8), (1_000, 1e9)
))  # fmt: skip
"""Each rate with as few cameras as can make it at 12 frames/s, and with ten times as many."""


def build_s(frames: float, segments: float) -> float:
    """Returns the seconds that building a day from its segments takes on two cores."""
    return frames * BUILD_S_A_FRAME + segments * BUILD_S_A_SEGMENT


def tables() -> list[Table]:
    """Returns the tables of docs/scale.md."""
    return [_needs(), _requests(), _settings(), _limits()]


def _needs() -> Table:
    columns = ("cameras", "frames a day", "frames/s", "partitions", "lanes", "machines: detection", "RTSP sources",
               "memory", "images a day", "tables a day", "a whole day's build")  # fmt: skip
    rows = [
        (*_size(site), f"{site.frames_a_s:,.0f}", f"{site.partitions:,}", f"{site.lanes:,}", *map(str, site.machines),
         f"{site.memory_gb:,.0f} GB", _bytes(site.frames_a_day * IMAGE_BYTES),
         _bytes(site.frames_a_day * TABLE_BYTES_A_FRAME), _duration(site.build_s))
        for site in SITES
    ]  # fmt: skip
    return Table(columns, rows, "What a site needs:")


def _requests() -> Table:
    columns = ("cameras", "frames a day", "runs a day", "Dagster's database a day", "segments a day",
               "ledger's requests a day", "USD a day: ledger", "images")  # fmt: skip
    rows = [
        (*_size(site), f"{site.runs_a_day:,.0f}", _bytes(site.event_bytes_a_day), _count(site.segments_a_day),
         _count(sum(site.ledger_requests_a_day)), f"{site.ledger_usd_a_day:,.2f}", f"{site.images_usd_a_day:,.2f}")
        for site in SITES
    ]  # fmt: skip
    return Table(columns, rows, "What it does in a day, with the settings of the next table:")


def _settings() -> Table:
    names = ("LANES", "MAX_RUN_S", "COMMIT_INTERVAL_S", "REDETECT_PART_FRAMES")
    columns = ("cameras", "frames a day", *(f"`IMGPIPELINE_{name}`" for name in names), "detection's `limit`")
    rows = [
        (*_size(site), str(site.lanes), f"{site.max_run_s:g}", f"{site.commit_interval_s:g}",
         str(site.redetect_part_frames), str(max(16, site.lanes)))
        for site in SITES
    ]  # fmt: skip
    return Table(columns, rows, "The settings to use, and the `limit` of detection in `dagster.yaml`:")


def _limits() -> Table:
    most = DEFAULTS["takeover_s"].default * MOST_ASKED / TICK_S
    ticks = TICK_S_A_CHAIN * (MOST_ASKED + OTHERS_ASKED)
    lanes = 1_000 * LANE_FRAMES_A_S / HEADROOM * _DAY_S
    a_lane = (_DAY_S / DEFAULTS["max_run_s"].default) * RUN_EVENT_BYTES
    segments_usd = _DAY_S * (PUT_USD + READS_A_SEGMENT * GET_USD)
    rows = [
        ("lanes", f"{LANE_FRAMES_A_S:g} frames/s for each, on two cores", f"{_count(lanes)} frames a day (1,000 lanes)",
         "a GPU for each lane, or several sites"),
        ("sensor", f"reads {MOST_ASKED} ends in a tick of {TICK_S} s, {ticks:.1f} s", f"{most:,.0f} partitions",
         "it sees progress too late and takes over healthy runs: raise `IMGPIPELINE_TAKEOVER_S`"),
        ("sensor's decision", f"{DECIDE_S_A_PAIR * 1e6:g} s for 1,000 lanes and 1,000 partitions",
         f"{TICK_S / DECIDE_S_A_PAIR / 1e3:,.0f} partitions with 1,000 lanes", "ticks take longer than their interval"),
        ("runs", f"{_bytes(a_lane)} of events a day for each lane with runs of 15 minutes", f"{MANY_LANES} lanes",
         "Dagster's database grows by the run: raise `IMGPIPELINE_MAX_RUN_S`"),
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
         "no limit; costs more than all else", "`IMGPIPELINE_KEEP_IMAGES_DAYS`, a store without a price per request, or gates"),
    ]  # fmt: skip
    return Table(("part", "figure", "ends at", "then"), rows, "Where each part ends:")


def _size(site: Site) -> tuple[str, str]:
    return f"{site.cameras:,}", _count(site.frames_a_day)


def _count(number: float) -> str:
    return f"{number:,.0f}" if number < 1e6 else f"{number / 1e6:,.1f} million"


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1e3:,.0f} kB"


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} h"


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
