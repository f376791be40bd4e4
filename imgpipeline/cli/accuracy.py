"""`imgpipeline accuracy`: draw the frames on which people count, and show what their answers say about the counts."""

import getpass
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import quote

import typer

from imgpipeline.accuracy.answers import read_answers
from imgpipeline.accuracy.estimator import ENOUGH_SAMPLES, LEAST_ERRORS, Verdict, samples_for
from imgpipeline.accuracy.plans import Plan, days_with_plans, extend_plan, make_plan, read_plan, read_plans
from imgpipeline.cli.options import Period, RowFormat, SourceOption, command, days_with_frames, open_site
from imgpipeline.cli.output import note
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import UsageError
from imgpipeline.lake.days.measuring import WHOLE_DAY, AccuracyRow, changed_frames, measure, read_population
from imgpipeline.lake.sessions.session import LakeSession, open_lake
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings

app = typer.Typer()
_NO_PLANS = "There are no plans. Make one: imgpipeline accuracy plan --day 2026-01-09"
_STATUS = ("day", "source", "labels", "frames", "samples", "answered", "left", "not_covered", "gone", "came_back",
           "gated", "dead_letters")  # fmt: skip
_SHOWN = ("day", "source", "label", "part", "count", "estimate", "low", "high", "samples", "errors_seen", "undecided",
          "agreement", "verdict")  # fmt: skip
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
    session: LakeSession

    def ask(self, sql: str, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return self.session.query(sql, given).rows

    def sources(self) -> list[str]:
        """Returns the sources with processed frames."""
        found = self.ask(
            "SELECT DISTINCT source FROM frames WHERE day = $day AND status = 'processed'", {"day": self.day}
        )
        return sorted(source for (source,) in found)

    def draw(self, source: str, existing: Plan | None, labels: Sequence[str] | None, samples: int | None) -> Plan:
        """Makes a plan, or extends the existing one."""
        by, at = getpass.getuser(), utc_now()
        ends = {str(chain): end for chain, end in self.session.snapshot.ends.items()}
        frames = read_population(self.ask, self.day, source, ends, existing)
        if existing:
            drawn = extend_plan(self.store, existing, frames, by=by, at=at, samples=samples)
            return Plan((*existing.draws, drawn))
        query = "SELECT DISTINCT label FROM label_counts WHERE day = $day AND source = $source"
        labels = labels or [label for (label,) in self.ask(query, {"day": self.day, "source": source})]
        made = make_plan(self.store, frames, labels=labels, samples=samples or ENOUGH_SAMPLES, by=by, at=at)
        return Plan((made,))

    def measured(self, plan: Plan) -> list[AccuracyRow]:
        answers = read_answers(self.store, self.day, plan.source)
        return measure(self.ask, plan, answers, self.settings.summary_threshold)

    def status(self, plan: Plan) -> dict[str, Any]:
        answered = {answer.frame_id for answer in read_answers(self.store, self.day, plan.source)}
        ((frames, gated, dead_letters),) = self.ask(_OUTCOMES, {"day": self.day, "source": plan.source})
        not_covered, gone, came_back = changed_frames(self.ask, plan)
        done = len(answered.intersection(plan.run_of))
        return {
            "day": self.day, "source": plan.source, "labels": plan.labels, "frames": frames,
            "samples": len(plan.samples), "answered": done, "left": len(plan.samples) - done,
            "not_covered": not_covered, "gone": gone, "came_back": came_back, "gated": gated,
            "dead_letters": dead_letters,
        }  # fmt: skip


@command(app, "plan")
def plan(
    period: Period,
    source: Annotated[list[str] | None, typer.Option("--source", help="The source. Repeatable. Default: all.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="People count this label. Repeatable. Default: those found on the day."),
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="How many frames. Default: 240.")] = None,
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
    for on in _open_days(store, settings, days_with_frames(store, period.span(), are_built=False)):
        for name in source or on.sources():
            made = read_plan(store, on.day, name)
            if made and not extend:
                note(f"{name} has a plan of {on.day} already. --extend draws more frames.")
            else:
                made = on.draw(name, made, label, samples)
            records.append(on.status(made))
            _note_needs(made, on.measured(made), share)
            _note_page(made, settings)
    rows.show(records, _STATUS, empty="There are no processed frames.")


@command(app, "status")
def status(period: Period, source: SourceOption = None, *, rows: RowFormat) -> None:
    """Show how many samples of each plan have an answer, and what a plan is not about.

    Gated frames and dead letters are outside the population. A repair can remove frames, and bring others back.
    """
    found = [on.status(plan) for on, plan in _plans(period, source)]
    rows.show(found, _STATUS, empty=_NO_PLANS)


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


def _open_days(store: ObjectStore, settings: Settings, days: Iterable[date]) -> Iterator[_OpenDay]:
    for day in days:
        with open_lake(store, settings=settings, days=[day]) as session:
            yield _OpenDay(store, settings, day, session)


def _plans(period: Period, source: str | None) -> Iterator[tuple[_OpenDay, Plan]]:
    span = period.span()
    settings, store = open_site()
    for on in _open_days(store, settings, [day for day in days_with_plans(store) if day in span]):
        yield from ((on, plan) for plan in read_plans(store, on.day) if source in (None, plan.source))


def _note_needs(plan: Plan, found: Sequence[AccuracyRow], width: float) -> None:
    """Notes how many samples an interval of a relative half width needs."""
    for row in found:
        if row.part == WHOLE_DAY:
            needed = samples_for(width, row.found.count, row.found.frames, row.found)
            note(f"{plan.source}, {row.label}: an interval of ±{width:.0%} needs about {counted(needed, 'sample')}.")


def _note_page(plan: Plan, settings: Settings) -> None:
    page = f"/count/{plan.day}?source={quote(plan.source, safe='')}"
    where = f"at {settings.viewer_url}{page}" if settings.viewer_url else f"on the page {page} of `imgpipeline serve`"
    note(f"{plan.source}: count the frames {where}")


def _why_not(row: AccuracyRow) -> str:
    """Returns why a row has no interval, and what to do."""
    if row.found.verdict is Verdict.NOT_COVERED:
        command = f"imgpipeline accuracy plan --day {row.day} --source {shlex.quote(row.source)} --extend"
        return f"frames arrived after the plan. Draw a sample of them: {command}"
    return (
        f"too few answers for an interval: {row.found.errors_seen} of {LEAST_ERRORS} with an error, or "
        f"{row.found.samples} of {ENOUGH_SAMPLES} in all. Go on counting, or extend the plan."
    )
