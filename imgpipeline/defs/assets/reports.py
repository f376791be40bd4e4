"""The asset `daily_report`: one HTML page per day, and what the UI shows of it. `reports` writes the page."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from hashlib import sha256
from typing import TYPE_CHECKING

import dagster as dg

from imgpipeline.contracts.times import utc_now
from imgpipeline.defs.automation import follow
from imgpipeline.defs.building import RETRIES, BuildConfig, DayBuilds, build_days
from imgpipeline.defs.failures import known_failures
from imgpipeline.defs.partitions import DAYS, days_of
from imgpipeline.defs.resources import Pipeline
from imgpipeline.defs.versions import Built
from imgpipeline.lake.build.summaries import SUMMARIES
from imgpipeline.lake.schema import DAY_TABLES, LABEL_TIMESTAMPS, TRACK_TABLES
from imgpipeline.lake.schema.tracks import UNIQUE_OBJECTS
from imgpipeline.reports.inputs import FOUND_TABLES, report_recipe
from imgpipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from imgpipeline.reports.build import ReportBuild

DAILY_REPORT = dg.AssetKey("daily_report")
_MOST_PICTURES = 10
"""Of a long range only the last days show their picture."""
_SHOWN_TABLES = (*(table.name for table in DAY_TABLES), *(n for n in SUMMARIES if n != LABEL_TIMESTAMPS.name))
_UPSTREAM = [dg.AssetKey(name) for name in _SHOWN_TABLES]
_BUILT_WITH_OTHERS = {table.name for table in TRACK_TABLES if table is not UNIQUE_OBJECTS}
_FOLLOWED = [*_UPSTREAM, *(dg.AssetKey(table.name) for table in FOUND_TABLES if table.name not in _BUILT_WITH_OTHERS)]
"""A new version of tracks or events makes a report outdated. They are no dependencies, because a step that fails keeps
those that depend on it from running: a day whose tracks cannot be built still gets its report. All tables of tracks
come from one step, so it is enough to look at one of them."""


def report_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Returns the assets of this layer.

    Args:
        settings: Their code versions depend on the settings that their queries read.
    """

    @dg.multi_asset(
        name="daily_report",
        specs=[
            dg.AssetSpec(
                DAILY_REPORT,
                deps=_UPSTREAM,
                group_name="reports",
                kinds={"html", "s3"},
                owners=["team:imgpipeline"],
                description="What happened on that day? One self-contained HTML page: detections by label and "
                "hour, different objects, zones and lines, events, frames by hour and size, images with their "
                "detections and tracks, dead letters, and whether tables and ledger agree. The command "
                "imgpipeline report --day D --out F fetches it.",
                code_version=report_recipe(settings),
                automation_condition=follow(_FOLLOWED),
            )
        ],
        partitions_def=DAYS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=RETRIES,
    )
    def build(
        context: dg.AssetExecutionContext, config: BuildConfig, pipeline: Pipeline
    ) -> Iterator[dg.MaterializeResult[None]]:
        from imgpipeline.reports.build import build_report  # noqa: PLC0415 - only if a report is built

        days = days_of(context)
        with known_failures():
            now_settings, store = pipeline.settings(), pipeline.store()

            def build_day(day: date) -> DayBuilds:
                made = build_report(store, now_settings, day, force=config.force, now=utc_now())
                return {DAILY_REPORT: _built(made, store.url, with_picture=day in days[-_MOST_PICTURES:])}

            step = build_days(context, days, _FOLLOWED, build_day)
        yield from step.results()

    return [build]


def _built(made: "ReportBuild", url: str, *, with_picture: bool) -> Built:
    """Returns what is stored of a report, and shown of it."""
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
            {"picture": dg.MetadataValue.md(f"![{made.day}](data:image/svg+xml;base64,{picture})")}
            if with_picture
            else {}
        ),
    }
    # Not of the page's bytes: it names the versions of the tables, which change whenever one is built again.
    content = repr((made.recipe, replace(made.headline, inputs="")))
    return Built(metadata, sha256(content.encode()).hexdigest()[:16])


def _known(**numbers: float | None) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if value is not None}


reports = report_assets(load_settings())
"""The assets of this deployment."""
