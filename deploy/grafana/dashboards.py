"""Makes the dashboards for Grafana: `python deploy/grafana/dashboards.py` writes them as JSON to `dashboards/`.

`sources`, `pipeline` and `quality` read the metrics of `imgpipeline exporter` from Prometheus; `tables` reads what a
ClickHouse sink has copied. Needs `pip install -c constraints.txt grafana-foundation-sdk`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders.common import ReduceDataOptions, StackingConfig
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.statetimeline import Panel as StateTimeline
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import GraphDrawStyle, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
    VariableSort,
)

TARGET = Path(__file__).resolve().parent / "dashboards"
PROMETHEUS = "prometheus"
CLICKHOUSE = "grafana-clickhouse-datasource"
"""Type of Grafana's official plugin for ClickHouse, version 4 and newer."""
TAG = "imgpipeline"
OF_SOURCE = "$__timeFilter(timestamp) AND source IN (${source:sqlstring})"
OF_COUNTS = "$__timeFilter(hour) AND source IN (${source:sqlstring})"
Panel = Stat | StateTimeline | Table | TimeSeries


@dataclass(frozen=True)
class ClickHouseQuery(Dataquery):
    """A query of the plugin for ClickHouse, which the SDK has no type for; it builds itself."""

    sql: str
    is_series: bool

    def build(self) -> "ClickHouseQuery":
        """Return the query."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the fields that the plugin reads."""
        return {
            "datasource": data_source(CLICKHOUSE),
            "editorType": "sql",
            "format": 0 if self.is_series else 1,
            "queryType": "timeseries" if self.is_series else "table",
            "rawSql": self.sql,
            "refId": "A",
        }


def data_source(kind: str) -> DataSourceRef:
    """Return the source that the dashboard's variable `datasource` names."""
    return DataSourceRef(type_val=kind, uid="${datasource}")


def with_queries(panel: Panel, queries: dict[str, str]) -> Panel:
    """Return a panel with PromQL queries, by legend."""
    panel.datasource(data_source(PROMETHEUS))
    for letter, (legend, expression) in zip("ABCDEF", queries.items(), strict=False):
        panel.with_target(PrometheusQuery().expr(expression).legend_format(legend).ref_id(letter).range())
    return panel


def graph(title: str, unit: str, meaning: str, queries: dict[str, str]) -> Panel:
    """Return values over time."""
    panel = TimeSeries().title(title).description(meaning).unit(unit).span(12).height(8).fill_opacity(10)
    return with_queries(panel, queries)


def number(title: str, unit: str, meaning: str, query: str, red_from: float | None = None) -> Panel:
    """Return the newest value, green, or red from a limit on."""
    panel = Stat().title(title).description(meaning).unit(unit).span(4).height(4)
    return with_queries(panel.thresholds(limits(red_from)), {title: query})


def states(title: str, meaning: str, legend: str, query: str, *, good: int = 1) -> Panel:
    """Return a band for each series, green while it has the good value of 0 and 1."""
    shown = {str(good): ValueMappingResult(text="ok", color="green")}
    shown[str(1 - good)] = ValueMappingResult(text="fault", color="red")
    panel = StateTimeline().title(title).description(meaning).mappings([ValueMap(options=shown)])
    return with_queries(panel.line_width(0).fill_opacity(70).span(12).height(8), {legend: query})


def limits(red_from: float | None) -> ThresholdsConfig:
    """Return green below a limit and red from there on."""
    steps = [Threshold(color="green")] + ([] if red_from is None else [Threshold(value=red_from, color="red")])
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def dashboard(name: str, kind: str, meaning: str) -> Dashboard:
    """Return a dashboard without panels, whose readers choose the data source."""
    others = DashboardLink("imgpipeline").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)
    made = Dashboard(f"imgpipeline: {name}" if kind == PROMETHEUS else "imgpipeline").uid(f"imgpipeline-{name}")
    made.description(meaning).tags([TAG]).timezone("utc").link(others)
    made.time("now-6h" if kind == PROMETHEUS else "now-7d", "now").refresh("1m")
    return made.with_variable(DatasourceVariable("datasource").label("Data source").type(kind))


def source_variable(kind: str, query: str | dict[str, object]) -> QueryVariable:
    """Return the choice of sources; all of them at first."""
    made = QueryVariable("source").label("Source").datasource(data_source(kind)).query(query)
    return (
        made.multi(True)
        .include_all(True)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def sources() -> Dashboard:
    """Return what the cameras, folders and videos deliver, and what was lost on the way."""
    made = dashboard("sources", PROMETHEUS, "What each source delivers, and what was lost before detection.")
    values: dict[str, object] = {"query": "label_values(imgpipeline_source_up, source)", "refId": "sources"}
    made.with_variable(source_variable(PROMETHEUS, values).all_value(".*"))
    return filled(made, [*source_numbers(), *source_panels()])


def of_sources(name: str) -> str:
    """Return a metric of the chosen sources."""
    return f'imgpipeline_source_{name}{{source=~"$source"}}'


def source_numbers() -> Iterator[Panel]:
    """Yield the state of all sources."""
    offline = f"sum(1 - {of_sources('up')})"
    lost = f"sum({of_sources('dropped_today')}) or vector(0)"
    for title, meaning, query, red_from in (
        ("Sources online", "Online, or sending frames.", f"sum({of_sources('up')})", None),
        ("Sources offline", "Offline or silent. `imgpipeline sources list` says why.", offline, 1),
        ("Frames today", "Since 0:00 UTC.", f"sum({of_sources('frames_today')})", None),
        ("Skipped today", "Skipped on purpose.", f"sum({of_sources('gated_today')})", None),
        ("Lost today", "Dropped, for any reason.", lost, 1),
        ("Failed today", "Not decoded or not stored by the source.", f"sum({of_sources('failed_today')})", 1),
    ):
        yield number(title, "short", meaning, query, red_from)


def source_panels() -> Iterator[Panel]:
    """Yield what each source delivers, over time."""
    legend = "{{source}}"
    age = f"time() - {of_sources('last_frame_timestamp_seconds')}"
    lost = {"{{source}} {{reason}}": of_sources("dropped_today"), "{{source}} failed": of_sources("failed_today")}
    frames, skipped = (f"rate({of_sources(name)}[5m])" for name in ("frames_today", "gated_today"))
    observed = f"{of_sources('observed_today_seconds')} / (time() % 86400)"
    yield states("Online", "Whether a source sends frames.", legend, of_sources("up"))
    yield graph("Age of the newest frame", "s", "By the frame's own time.", {legend: age})
    yield graph("Frames per second", "short", "Frames in the ledger, mean of 5 minutes.", {legend: frames})
    yield graph("Losses today", "short", "Frames since 0:00 UTC, by reason.", lost)
    yield graph("Skipped frames per second", "short", "Skipped on purpose, mean of 5 minutes.", {legend: skipped})
    yield graph("Observed time today", "percentunit", "Part of the UTC day so far with frames.", {legend: observed})


def pipeline() -> Dashboard:
    """Return how far each stage is behind, and what stands still."""
    made = dashboard("pipeline", PROMETHEUS, "How far detection, builds, alerts and sinks are behind.")
    filled(made.with_row(Row("Now")), pipeline_numbers())
    filled(made.with_row(Row("Detection")), detection_panels())
    filled(made.with_row(Row("Builds and runs")), run_panels())
    return filled(made.with_row(Row("Alerts and sinks")), target_panels())


def pipeline_numbers() -> Iterator[Panel]:
    """Yield the state of each stage."""
    for title, unit, meaning, query, red_from in (
        ("Age of the metrics", "s", "Computed so long ago.", "time() - imgpipeline_refreshed_timestamp_seconds", 300),
        ("Unread offsets", "short", "Without an outcome, all partitions.", "sum(imgpipeline_lag_offsets)", None),
        ("Oldest unread record", "s", "Of all partitions.", "max(imgpipeline_lag_seconds)", 300),
        ("Partitions that stop", "short", "Until a command is run.", "sum(imgpipeline_partition_stopped)", 1),
        ("Days behind", "short", "Days that are due to be built.", "imgpipeline_days_behind", None),
        ("Failed runs", "short", "Within the last hour.", "sum(imgpipeline_runs_failed)", 1),
    ):
        yield number(title, unit, meaning, query, red_from)


def detection_panels() -> Iterator[Panel]:
    """Yield how far detection is behind, and why."""
    at = "{{topic}}/{{partition}}"
    yield graph("Age of the oldest unread record", "s", "By partition.", {at: "imgpipeline_lag_seconds"})
    yield graph("Unread offsets", "short", "By partition.", {at: "imgpipeline_lag_offsets"})
    yield states("Partitions", "Whether a partition stops.", at, "imgpipeline_partition_stopped", good=0)
    yield graph(
        "Signs of life",
        "s",
        "Time since frames_sensor ran, and since it saw detection commit frames.",
        {
            "sensor": "time() - imgpipeline_detection_sensor_timestamp_seconds",
            "commit": "time() - imgpipeline_detection_last_commit_timestamp_seconds",
        },
    )
    yield graph(
        "Faults that frames_sensor saw",
        "short",
        "Runs that fail at the same offset; partitions that stop.",
        {"runs": "imgpipeline_detection_failing_runs", "partitions": "imgpipeline_detection_stopped_partitions"},
    )
    yield states("Parts of the metrics", "Whether it can be read.", "{{part}}", "imgpipeline_part_up")


def run_panels() -> Iterator[Panel]:
    """Yield what Dagster runs, and which requests of the exporter fail."""
    yield graph("Days behind", "short", "Days that are due to be built.", {"days": "imgpipeline_days_behind"})
    yield graph(
        "Failed runs",
        "short",
        "Runs of Dagster that failed within the last hour. Needs DAGSTER_HOME.",
        {"{{work}}": "imgpipeline_runs_failed"},
    )
    yield graph(
        "Time of a run",
        "s",
        "The newest run that succeeded within the last hour. Needs DAGSTER_HOME.",
        {"{{work}}": "imgpipeline_run_seconds"},
    )
    yield graph(
        "Failed requests of the exporter",
        "short",
        "Computations that failed within 15 minutes, by part and error.",
        {"{{part}} {{error}}": "increase(imgpipeline_part_failures_total[15m])"},
    )


def target_panels() -> Iterator[Panel]:
    """Yield what has not reached its target."""
    yield graph(
        "Alerts",
        "short",
        "Alerts that some target does not have, and those that have waited for too long.",
        {"undelivered": "imgpipeline_alerts_undelivered", "late": "imgpipeline_alerts_late"},
    )
    yield states("Sinks", "Whether the last export failed.", "{{sink}}", "imgpipeline_sink_failing", good=0)
    yield graph(
        *("Days that a sink lacks", "short", "Or has in another version."), {"{{sink}}": "imgpipeline_sink_days_behind"}
    )
    yield graph(
        "Age of the last export",
        "s",
        "By sink.",
        {"{{sink}}": "time() - imgpipeline_sink_last_export_timestamp_seconds"},
    )


def quality() -> Dashboard:
    """Return whether the numbers can be trusted."""
    made = dashboard("quality", PROMETHEUS, "Whether numbers can be trusted: audits, dead letters, losses.")
    lost = "((sum(imgpipeline_source_dropped_today) or vector(0)) + sum(imgpipeline_source_failed_today))"
    frames = "(sum(imgpipeline_source_frames_today) + sum(imgpipeline_source_gated_today))"
    lost_part = f"{lost} / ({lost} + {frames})"
    wrong, letters = "imgpipeline_audit_wrong_days", "imgpipeline_dead_letters_today"
    age = "time() - imgpipeline_audit_timestamp_seconds"
    observed = "imgpipeline_source_observed_today_seconds / (time() % 86400)"
    panels = (
        number("Wrong days", "short", "Days that the last audit found wrong, of the last 31.", wrong, red_from=1),
        number("Last audit", "s", "So long ago.", age, red_from=8 * 86_400),
        number("Dead letters today", "short", "Since 0:00 UTC.", f"sum({letters}) or vector(0)", red_from=1),
        number("Lost today", "percentunit", "Part of all frames.", lost_part, red_from=0.001),
        number("Observed today", "percentunit", "Mean of the sources.", f"avg({observed})"),
        number("Faults of sources", "short", "Offline or silent now.", "sum(1 - imgpipeline_source_up)", red_from=1),
        graph("Dead letters today", "short", "By code.", {"{{code}}": letters}),
        graph("Wrong days", "short", "Days that the last audit found wrong.", {"days": wrong}),
        graph("Age of the last audit", "s", "Of the newest audited day.", {"age": age}),
        graph("Lost today", "percentunit", "Part of all frames since 0:00 UTC.", {"lost": lost_part}),
        graph("Observed time today", "percentunit", "Part of the UTC day so far.", {"{{source}}": observed}),
        graph(
            "Skipped today",
            "percentunit",
            "Part of the frames that were skipped on purpose.",
            {
                "{{source}}": "imgpipeline_source_gated_today "
                "/ (imgpipeline_source_gated_today + imgpipeline_source_frames_today)"
            },
        ),
    )
    return filled(made, panels)


def from_tables(panel: Panel, sql: str) -> Panel:
    """Return a panel with a query of ClickHouse."""
    is_series = isinstance(panel, TimeSeries)
    return panel.datasource(data_source(CLICKHOUSE)).with_target(ClickHouseQuery(sql, is_series))


def tables() -> Dashboard:
    """Return the images and detections that a ClickHouse sink has copied."""
    made = dashboard("tables", CLICKHOUSE, "Images and detections, from the tables of a ClickHouse sink.")
    made.with_variable(source_variable(CLICKHOUSE, "SELECT DISTINCT source FROM images_metadata ORDER BY source"))
    panels: list[Panel] = []
    for title, sql in (
        ("Images", f"SELECT count() AS images FROM images_metadata WHERE {OF_SOURCE}"),
        ("Images of all time", "SELECT count() AS images FROM images_metadata"),
        ("Sources", f"SELECT uniqExact(source) AS sources FROM images_metadata WHERE {OF_SOURCE}"),
        ("Detections", f"SELECT sum(count) AS detections FROM label_counts WHERE {OF_COUNTS}"),
        ("Days", f"SELECT uniqExact(day) AS days FROM images_metadata WHERE {OF_SOURCE}"),
        ("Mean brightness", f"SELECT avg(brightness) AS mean_brightness FROM images_metadata WHERE {OF_SOURCE}"),
    ):
        shown = Stat().title(title).span(4).height(4).decimals(0).thresholds(limits(None))
        panels.append(from_tables(shown.reduce_options(ReduceDataOptions().calcs(["lastNotNull"])), sql))
    return filled(made, [*panels, *table_graphs(), *table_lists()])


def table_graphs() -> Iterator[Panel]:
    """Yield images, brightness and detections over time."""
    by_time = f"FROM images_metadata WHERE {OF_SOURCE} GROUP BY time, source ORDER BY time"
    bars = TimeSeries().title("Images over time").description("By source.").draw_style(GraphDrawStyle.BARS)
    bars.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(70).interval("1m")
    bars.display_name("${__field.labels.source}").span(24).height(8)
    yield from_tables(bars, f"SELECT $__timeInterval(timestamp) AS time, source, count() AS images {by_time}")
    light = TimeSeries().title("Brightness over time").description("Mean luma; 0 is black, 255 is white.")
    light.display_name("${__field.labels.source}").fill_opacity(10).min(0).max(255).interval("1m").span(12).height(8)
    mean = "SELECT $__timeInterval(timestamp) AS time, source, avg(brightness) AS mean_brightness"
    yield from_tables(light, f"{mean} {by_time}")
    found = TimeSeries().title("Detections over time").description("By label and hour.").draw_style(GraphDrawStyle.BARS)
    found.stacking(StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(70).interval("1h")
    found.display_name("${__field.labels.label}").span(12).height(8)
    yield from_tables(
        found,
        "SELECT $__timeInterval(hour) AS time, label, sum(count) AS detections FROM label_counts "
        f"WHERE {OF_COUNTS} GROUP BY time, label ORDER BY time",
    )


def table_lists() -> Iterator[Panel]:
    """Yield totals and the newest rows."""
    yield from_tables(
        Table().title("Totals by source").filterable(True).span(12).height(8),
        "SELECT source, count() AS images, avg(brightness) AS mean_brightness, min(timestamp) AS first, "
        f"max(timestamp) AS last FROM images_metadata WHERE {OF_SOURCE} GROUP BY source ORDER BY images DESC",
    )
    yield from_tables(
        Table().title("Totals by label").filterable(True).span(12).height(8),
        "SELECT label, sum(count) AS detections, max(last_seen) AS last FROM label_counts "
        f"WHERE {OF_COUNTS} GROUP BY label ORDER BY detections DESC",
    )
    yield from_tables(
        Table().title("Latest images").filterable(True).span(24).height(10),
        "SELECT timestamp, source, brightness, width, height, path FROM images_metadata "
        f"WHERE {OF_SOURCE} ORDER BY timestamp DESC LIMIT 50",
    )


def filled(made: Dashboard, panels: Iterable[Panel]) -> Dashboard:
    """Return a dashboard with more panels."""
    for panel in panels:
        made.with_panel(panel)
    return made


def rendered(made: Dashboard) -> str:
    """Return a dashboard as JSON for Grafana's provisioning, its panels numbered."""
    built = made.build()
    numbers: Any = count(1)
    for panel in built.panels or ():
        panel.id_val = next(numbers)
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


def dashboards() -> dict[str, str]:
    """Return all dashboards as JSON, by file name."""
    return {f"{make.__name__}.json": rendered(make()) for make in (sources, pipeline, quality, tables)}


if __name__ == "__main__":
    for name, text in dashboards().items():
        (TARGET / name).write_text(text)
