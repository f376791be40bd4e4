"""The asset `daily_report`: one HTML page per day, which `reports` writes."""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import follow
from imgpipeline.defs.building import Built, DayRun, day_asset
from imgpipeline.defs.specs import OWNERS
from imgpipeline.lake.build.summaries import SUMMARIES
from imgpipeline.lake.schema import DAY_TABLES, LABEL_TIMESTAMPS, TRACK_TABLES
from imgpipeline.lake.schema.tracks import UNIQUE_OBJECTS
from imgpipeline.reports.inputs import FOUND_TABLES, report_recipe
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.reports.build import ReportBuild

DAILY_REPORT = dg.AssetKey("daily_report")
_MOST_PICTURES = 10
"""In a long range, only the last days show their picture."""
_SHOWN_TABLES = (*(table.name for table in DAY_TABLES), *(n for n in SUMMARIES if n != LABEL_TIMESTAMPS.name))
_UPSTREAM = [dg.AssetKey(name) for name in _SHOWN_TABLES]
_BUILT_WITH_OTHERS = {table.name for table in TRACK_TABLES if table is not UNIQUE_OBJECTS}
_FOLLOWED = [*_UPSTREAM, *(dg.AssetKey(table.name) for table in FOUND_TABLES if table.name not in _BUILT_WITH_OTHERS)]
"""A new version of tracks or events makes a report outdated. They are not dependencies, because a failed step stops its
downstream assets, and a day whose tracks cannot be built still needs its report. One step builds all tables of tracks,
so following one of them is enough."""


def report_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Returns the asset of reports.

    Args:
        settings: Its code version depends on the settings that the queries read.
    """
    spec = dg.AssetSpec(
        DAILY_REPORT,
        deps=_UPSTREAM,
        group_name="reports",
        kinds={"html", "s3"},
        owners=OWNERS,
        description="What happened on that day? One self-contained HTML page: detections by label and hour, unique "
        "objects, zones and lines, events, frames by hour and size, images with their detections and tracks, dead "
        "letters, and whether tables and ledger agree. The command imgpipeline report --day D --output F downloads it.",
        code_version=report_recipe(settings),
        automation_condition=follow(_FOLLOWED),
    )
    return [day_asset(spec, _FOLLOWED, _prepare)]


def _prepare(run: DayRun) -> Callable[[date], Built]:
    from imgpipeline.reports.build import build_report  # noqa: PLC0415 - only if a report is built

    def build(day: date) -> Built:
        made = build_report(run.store, run.settings, day, force=run.config.force, now=utc_now())
        return _built(made, run.store.url, with_picture=day in run.days[-_MOST_PICTURES:])

    return build


def _built(made: "ReportBuild", url: str, *, with_picture: bool) -> Built:
    """Returns data version and metadata of a stored report."""
    picture = base64.b64encode(made.picture_svg).decode()
    metadata = {
        "path": f"{url}/{made.key}",
        "size_bytes": made.size_bytes,
        "skipped": made.skipped,
        "frames": made.headline.frames,
        "detections": made.headline.detections,
        "dead_letters": made.headline.dead_letters,
        "notices": made.headline.notices,
        "dropped": made.headline.dropped,
        **_known(
            observed_s=made.headline.observed_s,
            received=made.headline.received,
            objects=made.headline.objects,
            crossings=made.headline.crossings,
            events=made.headline.events,
        ),
        **(
            {"picture": dg.MetadataValue.md(f"![{made.headline.day}](data:image/svg+xml;base64,{picture})")}
            if with_picture
            else {}
        ),
    }
    # Not a hash of the page: it names the versions of the tables, which change with every build.
    content = repr((made.headline.recipe, replace(made.headline, inputs="")))
    return Built(metadata, sha256(content.encode()).hexdigest()[:16])


def _known(**numbers: float | None) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if value is not None}


reports = report_assets(load_settings())
"""The assets of this deployment."""
