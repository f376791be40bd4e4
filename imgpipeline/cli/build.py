"""`imgpipeline build`: build the tables, summaries, tracks, events and reports of days without Dagster."""

from collections.abc import Iterator

from imgpipeline.cli.options import ForceOption, Period, RowFormat, days_with_frames, open_site
from imgpipeline.contracts.text import counted
from imgpipeline.contracts.times import utc_now
from imgpipeline.daily.build import BuildOptions, ObjectBuild, build_day
from imgpipeline.daily.states import day_states
from imgpipeline.errors import PermanentError


def build(period: Period, force: ForceOption = False, *, rows: RowFormat) -> None:
    """Build the tables, summaries, tracks, events and reports of days that have frames.

    Skips what is current. Does what the Dagster job rebuild_days does, without Dagster; both may run at the same time.
    An object that cannot be built stops only those that need it; the command then fails and names it.
    """
    outcomes = list(_build(period, force=force))
    rows.show(
        [
            {"day": done.day, "object": done.name, "outcome": _outcome(done), "error": done.error and str(done.error)}
            for done in outcomes
        ]
    )
    failed = [done for done in outcomes if done.error]
    if failed:
        names = ", ".join(f"{done.name} of {done.day}" for done in failed)
        raise PermanentError(f"{counted(len(failed), 'object')} could not be built: {names}.")


def _build(period: Period, *, force: bool) -> Iterator["ObjectBuild"]:
    span = period.span()
    settings, store = open_site()
    days = days_with_frames(store, span, are_built=False)
    for day, states in day_states(store, settings, days, now=utc_now()).items():
        yield from build_day(store, settings, day, list(states), BuildOptions(force=force), clock=utc_now)


def _outcome(done: "ObjectBuild") -> str:
    if done.error:
        return "failed"
    return "current" if done.result.skipped else "built"
