"""Renders the page of a day as one self-contained HTML file."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from functools import cache, partial
from operator import itemgetter
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import find_timezone, format_time
from imgpipeline.lake.quality.audit_report import DayFigures
from imgpipeline.lake.sessions.session import LakeSession
from imgpipeline.objectstore import ImageReader, ObjectStore
from imgpipeline.reports import charts, wording
from imgpipeline.reports.charts import OTHERS, SMALL, Diagram, label_colour, label_style, make_diagrams, series_style
from imgpipeline.reports.evidence import DayVerdict, Verdict, last_audit, read_dead_letters
from imgpipeline.reports.figures import META_NAME, ByHour, Figures, Headline, Row, day_hours, read_figures
from imgpipeline.reports.findings import Findings, read_findings
from imgpipeline.reports.inputs import ReportInputs
from imgpipeline.reports.pictures import Easel, make_previews
from imgpipeline.reports.wording import number
from imgpipeline.settings import Settings
from imgpipeline.tracking.unique import least_seen_s


@dataclass(frozen=True, slots=True)
class Page:
    """One report."""

    html: bytes
    headline: Headline


@dataclass(frozen=True, slots=True)
class DayContent:
    """Everything that a page says about a day."""

    inputs: ReportInputs
    figures: Figures
    verdict: DayVerdict
    dead_letters: tuple[Row, ...]
    """Dead letters by code, the most frequent first."""
    previews: tuple[Row, ...]
    findings: Findings
    least_confidence: float
    least_seen_s: tuple[float, ...]
    """For how long objects had to be seen to count; several if the builds of its UTC days had different settings."""

    most_labels = 40
    most_sources = 60
    most_dimensions = 12
    most_legend = 12
    most_heat_rows = 24
    most_hour_rows = 500

    @property
    def headline(self) -> Headline:
        """The figures at the page's top."""
        figures, frames = self.figures, self.figures.frames
        return Headline(
            day=self.inputs.day,
            inputs=self.inputs.fingerprint,
            frames=int(frames.total("frames")),
            processed=int(frames.total("processed")),
            gated=int(frames.total("gated")),
            dead_letters=sum(group["count"] for group in self.dead_letters),
            detections=figures.detections,
            labels=len(figures.labels),
            sources=sum(1 for source in figures.sources if source["frames"]),
            size_bytes=int(frames.total("size_bytes")),
            busiest_hour=figures.busiest_hour,
            verdict=self.verdict.verdict.value,
            top=figures.top_labels(),
            hour_names=figures.clock.names,
            timezone=self.inputs.timezone,
            observed_s=frames.observed_s,
            notices=figures.notices,
            received=sum(books["received"] for books in figures.books) if figures.books else None,
            dropped=sum(books["dropped"].total() for books in figures.books),
            objects=self.findings.object_count,
            crossings=self.findings.crossing_count,
            events=self.findings.event_count,
            recipe=self.inputs.recipe,
        )

    @property
    def processed_until(self) -> datetime | None:
        """When the last frame of the day was processed, UTC."""
        return max((model["processed_until"] for model in self.figures.models), default=None)

    @property
    def built_at(self) -> datetime | None:
        """When the day's tables were built, UTC; None without tables."""
        return max((manifest.built_at for manifest in self.inputs.manifests), default=None)

    @property
    def changes(self) -> str | None:
        """What changed in the detection within the day: `The model`, `A threshold`, or both; None if nothing did."""
        models = self.figures.models
        several = len({(model["name"], model["sha256"]) for model in models}) > 1
        thresholds = len({(model["confidence_threshold"], model["nms_threshold"]) for model in models}) > 1
        if several:
            return "The model and a threshold" if thresholds else "The model"
        return "A threshold" if thresholds else None

    @property
    def compared(self) -> tuple[tuple[str, int | None, int | None], ...]:
        """What the audit counted: name, count in the ledger, count in Parquet."""
        figures = self.verdict.figures
        names = [name.removesuffix("_in_ledger") for name in DayFigures.__slots__ if name.endswith("_in_ledger")]
        return tuple(
            (name.replace("_", " "), getattr(figures, f"{name}_in_ledger"), getattr(figures, f"{name}_in_parquet"))
            for name in names
        )

    @property
    def example(self) -> Row | None:
        """The largest `count` of a `label` in an `hour`, as an example of a number to trace; None without detections.

        `hour` is the position in the day.
        """
        counts = [
            {"label": label.of["label"], "hour": hour, "count": count}
            for label in self.figures.labels
            for hour, count in enumerate(self.figures.by_hour(label, "count"))
        ]
        return max(counts, key=lambda one: one["count"], default=None)

    def hour_filter(self, place: int) -> str:
        """Returns an SQL condition for an hour of the day."""
        start, end = (format_time(at) for at in self.figures.clock.span(place))
        return f"timestamp >= TIMESTAMPTZ '{start}' AND timestamp < TIMESTAMPTZ '{end}'"

    @property
    def day_options(self) -> str:
        """The UTC days that are read, as command options."""
        first, *others = self.inputs.utc_days
        return f"--from {first} --to {others[-1]}" if others else f"--day {first}"

    def days_without(self, table: str) -> tuple[date, ...]:
        """Returns the UTC days for which a table is not built."""
        return tuple(day for day in self.inputs.utc_days if day not in self.inputs.days_with(table))

    @property
    def label_hours(self) -> list[tuple[str, Sequence[int]]]:
        """The most frequent labels with their detections in each hour of the day."""
        labels = self.figures.labels[: self.most_heat_rows]
        return [(one.of["label"], self.figures.by_hour(one, "count")) for one in labels]

    @property
    def source_labels(self) -> list[tuple[str, Sequence[int]]]:
        """The sources with the most frames that have detections, and how many of each label at the top of the page."""
        shown = [one.label for one in self.headline.top]
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for label in self.figures.labels:
            name = label.of["label"] if label.of["label"] in shown else ""
            for row in label.hours:
                counts[row["source"]][name] += row["count"]
        sources = [one["source"] for one in self.figures.sources if one["source"] in counts][: self.most_heat_rows]
        return [(source, [counts[source][name] for name in shown]) for source in sources]

    def hourly(self, found: Sequence[ByHour]) -> list[Row]:
        """Returns the rows of objects, zones or lines by hour."""
        return sorted(({**one.of, **hour} for one in found for hour in one.hours), key=itemgetter("hour"))

    @property
    def dimensions(self) -> list[tuple[str, int]]:
        """Dimensions in pixels, such as `640x360`, with their frames; most frequent first."""
        return sorted(self.figures.frames.bins("dimensions"), key=lambda one: -one[1])

    @property
    def has_all_summaries(self) -> bool:
        """Whether every summary of the day is stored."""
        return all(state is not Verdict.NOT_BUILT for _, state in self.verdict.summaries)

    def small_cards(self, diagrams: Mapping[str, Diagram]) -> int:
        """Returns the number of small cards side by side."""
        return sum(name in diagrams for name in SMALL) + bool(self.dimensions)

    def bar(self, value: int, largest: int, style: str = "s0") -> Markup:
        """Returns a bar for a cell of a table."""
        return Markup(charts.bar(value, largest, style))  # noqa: S704 - numbers only

    def hours_strip(self, hours: Sequence[float], told: str, style: str = "s0") -> Markup:
        """Returns one number per hour as a row of tiny bars."""
        return Markup(charts.strip(hours, max(hours), told, style))  # noqa: S704 - charts escape their texts

    def strip(self, source: Row) -> Markup:
        """Returns the hours of a source as a row of tiny bars."""
        hours = self.figures.by_hour(self.figures.frames_of[source["source"]], "frames")
        frames, active = counted(source["frames"], "frame"), counted(source["active_hours"], "hour")
        told = f"{frames} in {active}, at most {number(max(hours))} in one"
        return self.hours_strip(hours, told)


def make_page(store: ObjectStore, settings: Settings, session: LakeSession, inputs: ReportInputs) -> Page:
    """Renders the report of a day, of which `session` has the tables of `inputs`; nothing is stored.

    Raises:
        LedgerError: A segment cannot be read.
        PermanentError: This machine lacks the memory or disk space.
        TransientError: The store does not answer.
    """
    least = settings.summary_threshold
    clock = day_hours(inputs.day, find_timezone(inputs.timezone))
    figures = read_figures(session, clock)
    letters = read_dead_letters(session)
    top = figures.top_labels()
    easel = Easel(ImageReader(store, settings), lambda label: label_colour(label, top))
    previews = make_previews(easel, session, least=least)
    findings = read_findings(easel, session, inputs, clock, least=least)
    seen_s = {found for one in inputs.utc_days if (found := least_seen_s(session, one)) is not None}
    content = DayContent(inputs, figures, last_audit(inputs), letters, previews, findings, least, tuple(sorted(seen_s)))
    return Page(_render(content), content.headline)


def _render(content: DayContent) -> bytes:
    template = _environment(find_timezone(content.inputs.timezone)).get_template("report.html.j2")
    headline = content.headline
    text = template.render(
        meta_name=META_NAME,
        headline=headline,
        content=content,
        figures=content.figures,
        diagrams=make_diagrams(content.figures, content.findings, content.inputs.timezone),
        heat=charts.heat,
        series_style=series_style,
        label_style=lambda label: label_style(label, headline.top),
        others=OTHERS,
        DASH=wording.DASH,
        small=SMALL,
    )
    return text.encode("utf-8", "replace")


@cache
def _environment(zone: tzinfo) -> Environment:
    environment = Environment(
        loader=PackageLoader("imgpipeline.reports"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats: dict[str, Any] = {
        name: getattr(wording, name)
        for name in ("visible", "shell_word", "number", "short_number", "interval", "size", "duration", "stay", "share",
                     "clock", "moment", "long_day", "hour_span")
    }  # fmt: skip
    formats |= {name: partial(formats[name], zone=zone) for name in ("clock", "moment")}
    environment.filters.update(formats, counted=counted)
    return environment
