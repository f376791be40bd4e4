"""`imgpipeline accuracy`: draw the frames on which people count, and show what their answers say about the counts."""

import getpass
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import quote

import typer

from imgpipeline.accuracy.answers import answered
from imgpipeline.accuracy.estimator import ENOUGH_SAMPLES, LEAST_ERRORS, Verdict, add, samples_for
from imgpipeline.accuracy.estimator import accept as judge
from imgpipeline.accuracy.plans import (
    Plan,
    days_with_plans,
    extend_plan,
    make_plan,
    plan_command,
    read_plan,
    read_plans,
)
from imgpipeline.cli.options import (
    LabelOption,
    OneDayOption,
    Period,
    RowFormat,
    SourceOption,
    command,
    days_with_frames,
    from_arguments,
    open_site,
)
from imgpipeline.cli.output import note
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.events.accuracy import measure_plan
from imgpipeline.events.configuration import Line, Rules, read_rules
from imgpipeline.events.slices import ENOUGH_SLICES, counted_labels, open_samples
from imgpipeline.lake.days.measuring import WHOLE_DAY, AccuracyRow, changed_frames, read_population
from imgpipeline.lake.query.days import Span, parse_day
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.redetect.choice import parse_choice
from imgpipeline.redetect.judging import judge_pair
from imgpipeline.settings import LIVE, Settings

app = typer.Typer()
_NO_PLANS = "There are no plans. Make one: imgpipeline accuracy plan --day 2026-01-09"
_STATUS = ("day", "source", "labels", "frames", "samples", "answered", "left", "not_covered", "gone", "came_back",
           "gated", "dead_letters")  # fmt: skip
_SHOWN = ("day", "source", "label", "part", "count", "estimate", "low", "high", "samples", "errors_seen", "undecided",
          "agreement", "verdict")  # fmt: skip
_JUDGED = ("label", "source", "days", "samples", "count", "estimate", "error", "low", "high", "margin", "accepted")
_SOURCES = "SELECT DISTINCT source FROM frames WHERE day = $day AND status = 'processed' ORDER BY source"
_OUTCOMES = """
SELECT coalesce(sum(processed), 0), coalesce(sum(gated), 0), coalesce(sum(dead_letters), 0)
FROM frame_stats WHERE day = $day AND source = $source
"""


def read_share(given: str) -> float:
    """Reads a share such as `10%` or `0.1`.

    Raises:
        UsageError: It is not a number above 0 and up to 1.
    """
    try:
        share = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"Got the share {given!r}.", next_step="give one above 0 and up to 1, such as 10% or 0.1")
    return share


@dataclass(frozen=True, slots=True)
class _OpenDay:
    """A day of the lake at one moment."""

    store: ObjectStore
    settings: Settings
    day: date
    lake: LakeSession

    def sources(self) -> list[str]:
        """Returns the sources with processed frames."""
        return [source for (source,) in self.lake.rows(_SOURCES, {"day": self.day})]

    def draw(
        self, source: str, existing: Plan | None, labels: Sequence[str], samples: int | None, line: Line | None
    ) -> Plan:
        """Makes a plan, or extends the existing one."""
        kept = line.model_dump(mode="json") if line else None
        with open_samples(self.lake.rows, self.day, kept, memory=self.settings.duckdb_memory) as ask:
            frames = read_population(ask, self.day, source, self.lake.snapshot.ends, existing)
        by, at = getpass.getuser(), utc_now()
        if existing is None:
            labels, enough = (counted_labels(line, labels), ENOUGH_SLICES) if line else (labels, ENOUGH_SAMPLES)
            made = make_plan(self.store, frames, labels=labels, samples=samples or enough, by=by, at=at, line=kept)
            return Plan((made,))
        if existing.line != kept:
            raise UsageError(
                f"The line {existing.line_name} was changed after its plan of {self.day} was made.",
                next_step="give the changed line another name in the rules, and make a plan for that name",
            )
        drawn = extend_plan(self.store, existing, frames, by=by, at=at, samples=samples)
        return Plan((*existing.draws, drawn))

    def measured(self, plan: Plan) -> list[AccuracyRow]:
        return measure_plan(self.store, self.settings, self.lake.rows, plan)

    def status(self, plan: Plan) -> dict[str, Any]:
        with open_samples(self.lake.rows, self.day, plan.line, memory=self.settings.duckdb_memory) as ask:
            ((frames, gated, dead_letters),) = ask(_OUTCOMES, {"day": self.day, "source": plan.source})
            not_covered, gone, came_back = changed_frames(ask, plan)
        samples, done = len(plan.samples), len(answered(self.store, plan))
        return {
            "day": self.day, "source": plan.source, "labels": plan.labels, "frames": frames, "samples": samples,
            "answered": done, "left": samples - done, "not_covered": not_covered, "gone": gone,
            "came_back": came_back, "gated": gated, "dead_letters": dead_letters,
        }  # fmt: skip


@command(app, "plan")
def plan(
    period: Period,
    source: Annotated[list[str] | None, typer.Option("--source", help="The source. Repeatable. Default: all.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="People count this label. Repeatable. Default: those found on the day."),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", min=1, help="How many frames (default: 240) or slices (60).")
    ] = None,
    line: Annotated[
        str | None, typer.Option("--line", help="People count who crosses this line, in slices of two minutes.")
    ] = None,
    width: Annotated[
        str, typer.Option("--width", help="Say how many samples an interval of ± this share needs.")
    ] = "10%",
    *,
    extend: Annotated[bool, typer.Option("--extend", help="Draw more frames for existing plans.")] = False,
    rows: RowFormat,
) -> None:
    """Draw the frames of each source and day on which people count.

    A plan cannot be replaced, as that would let people choose the frames. --extend draws a sample of the frames that
    came after the plan. Without such frames, it draws one more frame of each run, so that the sample doubles.
    """
    share, records = read_share(width), []
    settings, store = open_site()
    there = _find_line(read_rules(settings, store), line) if line else None
    for on in _open_days(store, settings, days_with_frames(store, period.span(), are_built=False)):
        for name in [there.source] if there else source or on.sources():
            made = read_plan(store, on.day, name, line)
            if made and not extend:
                units = "slices" if line else "frames"
                note(f"{line or name} has a plan of {on.day} already. --extend draws more {units}.")
            else:
                made = on.draw(name, made, label or (), samples, there)
            records.append(on.status(made))
            _note_next(made, on.measured(made), share, settings)
    rows.show(records, _STATUS, empty="There are no processed frames.")


@command(app, "status")
def status(period: Period, source: SourceOption = None, *, rows: RowFormat) -> None:
    """Show how many samples of each plan have an answer, and what a plan is not about.

    Gated frames and dead letters are outside the population. A repair can remove frames, and bring others back.
    """
    rows.show([on.status(plan) for on, plan in _plans(period, source)], _STATUS, empty=_NO_PLANS)


@command(app, "show")
def show(period: Period, source: SourceOption = None, *, rows: RowFormat) -> None:
    """Show the estimate of each true count by people's answers, with its 95 % interval.

    Parts of a day (UTC) have rows of their own from 60 answers on.
    """
    found = [row for on, plan in _plans(period, source) for row in on.measured(plan)]
    rows.show([row.to_record() for row in found], _SHOWN, empty=_NO_PLANS)
    for row in found:
        if row.part == WHOLE_DAY and row.found.verdict is not Verdict.MEASURED:
            note(f"{row.day} {row.source}, {row.label}: {_why_not(row)}")


@command(app, "accept")
def accept(
    period: Period,
    label: Annotated[list[str], typer.Option("--label", help="The label. Repeatable.")],
    source: SourceOption = None,
    margin: Annotated[
        str | None, typer.Option("--margin", help="Largest error, such as 5%. Default: IMGPIPELINE_ACCURACY_MARGIN.")
    ] = None,
    *,
    rows: RowFormat,
) -> None:
    """Test whether counts are within a margin of the truth: of each source, and of all sources with a plan together.

    The days with a plan are added up. A count is accepted if the 90 % interval of its systematic error lies within the
    margin (two one-sided tests at 5 %), so too few samples never pass. The exit status is 1 unless all are accepted.
    """
    settings, _ = open_site()
    share = settings.accuracy_margin if margin is None else read_share(margin)
    known = [row for on, plan in _plans(period, source) for row in on.measured(plan) if row.part == WHOLE_DAY]
    judged = [record for each in label for record in _judge(each, [row for row in known if row.label == each], share)]
    rows.show(judged, _JUDGED, fields=(*_JUDGED, "sentence"))
    for record in judged if not (rows.as_json or rows.as_csv) else ():
        note(record["sentence"])
    for row in known:
        if row.label in label and not row.found.covered:
            note(f"{row.day} {row.source}, {row.label}: {_why_not(row)}")
    if not all(record["accepted"] for record in judged):
        raise typer.Exit(1)


def _judge(label: str, known: Sequence[AccuracyRow], margin: float) -> Iterator[dict[str, Any]]:
    """Yields the result of each source that has a plan for a label, and of all of them."""
    sources = sorted({row.source for row in known})
    if not sources:
        raise ConfigurationError(
            f"No plan of these days and sources counts {label}.",
            next_step=f"imgpipeline accuracy plan --day 2026-01-09 --label {shlex.quote(label)}",
        )
    for source in (*sources, *([None] if len(sources) > 1 else [])):
        parts = [row for row in known if source in (None, row.source)]
        found, days = add([row.found for row in parts]), sorted({row.day for row in parts})
        result = judge(found, margin, "slices" if parts[0].line else "frames")
        about = f"{label}, {source or 'all sources with a plan'}, {Span(days[0], days[-1])}"
        yield {
            "label": label, "source": source, "days": len(days), "samples": found.samples, "count": found.count,
            "estimate": found.estimate, **asdict(result), "sentence": f"{about}: {result.sentence}",
        }  # fmt: skip


@command(app, "compare")
def compare(
    day: OneDayOption,
    b: Annotated[str, typer.Option("--b", help="The model to compare, such as `yolox-nano@0.3`.")],
    a: Annotated[str, typer.Option("--a", help="The model that it is compared with, or `live`.")] = LIVE,
    source: SourceOption = None,
    label: LabelOption = None,
    *,
    rows: RowFormat,
) -> None:
    """Judge the stored results of two models on a day by the same answers of people.

    For each model: its count, and the 95 % interval of the true count by its errors. `more miscounted` is how many more
    objects b miscounts than a, added up frame by frame, with its 95 % interval. If all of it is below 0, b is better.
    """
    settings, store = open_site()
    with from_arguments("`imgpipeline models list` shows the models"):
        names = [name if name == LIVE else str(parse_choice(name, settings)) for name in (a, b)]
    judged = judge_pair(store, settings, parse_day(day), *names)
    found = [row for row in judged if source in (None, row["source"]) and label in (None, row["label"])]
    columns = [name for name in judged[0] if name != "frames"]
    rows.show(found, columns, empty="No plan is about them.", title=f"{day}: a is {names[0]}, b is {names[1]}")


def _open_days(store: ObjectStore, settings: Settings, days: Iterable[date]) -> Iterator[_OpenDay]:
    for day in days:
        with open_lake(store, settings=settings, days=[day]) as session:
            yield _OpenDay(store, settings, day, session)


def _plans(period: Period, source: str | None) -> Iterator[tuple[_OpenDay, Plan]]:
    span = period.span()
    settings, store = open_site()
    for on in _open_days(store, settings, [day for day in days_with_plans(store) if day in span]):
        yield from ((on, plan) for plan in read_plans(store, on.day) if source in (None, plan.source))


def _find_line(rules: Rules, name: str) -> Line:
    """Returns a line by its name; raises UsageError if there is none."""
    known = {line.name: line for line in rules.line}
    if name not in known:
        raise UsageError(
            f"There is no line {name!r}; the rules have: {', '.join(known) or 'none'}.", next_step="see docs/events.md"
        )
    return known[name]


def _note_next(plan: Plan, found: Sequence[AccuracyRow], width: float, settings: Settings) -> None:
    """Notes how many samples an interval of a relative half width needs, and where to count them."""
    for row in found:
        if row.part == WHOLE_DAY and (not row.line or row.found.verdict is Verdict.MEASURED):
            needed = samples_for(width, row.found.count, row.found.frames, row.found)
            note(f"{row.source}, {row.label}: an interval of ±{width:.0%} needs about {counted(needed, 'sample')}.")
    page = f"/count/{plan.day}?source={quote(plan.source, safe='')}"
    page += f"&line={quote(plan.line_name, safe='')}" if plan.line_name else ""
    where = f"at {settings.viewer_url}{page}" if settings.viewer_url else f"on the page {page} of `imgpipeline serve`"
    note(f"{plan.source}: count the {'crossings' if plan.line else 'frames'} {where}")


def _why_not(row: AccuracyRow) -> str:
    """Returns why an estimate has no interval, and what to do."""
    if row.found.verdict is Verdict.NOT_COVERED:
        command = f"{plan_command(row.day, row.source, row.line)} --extend"
        return f"frames arrived after the plan. Draw a sample of them: {command}"
    return (
        f"too few answers for an interval: {row.found.errors_seen} of {LEAST_ERRORS} with an error, or "
        f"{row.found.samples} of {ENOUGH_SAMPLES} in all. Go on counting, or extend the plan."
    )
