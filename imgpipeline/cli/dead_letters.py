"""`imgpipeline dead-letters`: the offsets that could not become frames, and why."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgpipeline.cli.output import JsonOption, note, show_json, show_table
from imgpipeline.cli.recent import latest_segments
from imgpipeline.errors import ConfigurationError, DeadLetterCode
from imgpipeline.settings import load_settings

if TYPE_CHECKING:
    from imgpipeline.contracts.keys import ChainId
    from imgpipeline.contracts.outcomes import DeadLetter
    from imgpipeline.ledger import Segment
    from imgpipeline.objectstore import ObjectStore

app = typer.Typer(no_args_is_help=True, help="The offsets that could not become frames, and why.")

_Found = tuple["ChainId", "DeadLetter"]


@app.callback()
def _group() -> None:
    """The offsets that could not become frames, and why."""


@app.command("list")
def list_all(
    code: Annotated[DeadLetterCode | None, typer.Option(help="Only those of this code.")] = None,
    day: Annotated[str | None, typer.Option(help="Only those of this day (UTC), such as 2026-01-09.")] = None,
    source: Annotated[str | None, typer.Option(help="Only those of this source.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the latest ones.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the latest first."""
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - loads obstore

    wanted = parse_day(day)
    store = open_store(load_settings())
    found: list[_Found] = []
    more = False
    for chain, letters in _per_chain(store, wanted):
        taken = 0
        for letter in letters:
            if not _matches(letter, code, wanted, source):
                continue
            if taken == limit:
                more = True
                break
            found.append((chain, letter))
            taken += 1
    found.sort(key=lambda pair: (pair[1].timestamp or datetime.min.replace(tzinfo=UTC), pair[1].offset), reverse=True)
    more = more or len(found) > limit
    _show(found[:limit], more=more, as_json=as_json)


def parse_day(text: str | None) -> date | None:
    """Returns the day of an option, or None where it was not given.

    Raises:
        ConfigurationError: It is no day.
    """
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ConfigurationError(f"--day is {text!r}.", next_step="give a day such as 2026-01-09") from None


def _per_chain(store: "ObjectStore", day: date | None) -> "Iterator[tuple[ChainId, Iterator[DeadLetter]]]":
    """Yields each chain with its dead letters, the latest first."""
    from imgpipeline.ledger import fix_ends, read_day  # noqa: PLC0415 - loads obstore

    ends = {chain: end.offset for chain, end in fix_ends(store).items()}
    for chain, end in ends.items():
        if day is None:
            yield chain, _letters(latest_segments(store, chain, end))
        else:
            yield chain, _letters(reversed(list(read_day(store, day, {chain: end}))))


def _letters(segments: "Iterator[Segment]") -> "Iterator[DeadLetter]":
    from imgpipeline.contracts.outcomes import DeadLetter  # noqa: PLC0415 - `--help` does not wait for it

    for segment in segments:
        if segment.header.dead_letters:
            yield from (o for o in reversed(segment.outcomes()) if isinstance(o, DeadLetter))


def _matches(letter: "DeadLetter", code: DeadLetterCode | None, day: date | None, source: str | None) -> bool:
    return (
        (code is None or letter.code is code)
        and (day is None or letter.day == day)
        and (source is None or letter.source == source)
    )


def _show(found: list[_Found], *, more: bool, as_json: bool) -> None:
    if as_json:
        show_json([_as_json(chain, letter) for chain, letter in found])
    elif found:
        columns = ("topic", "partition", "offset", "time", "code", "source", "image", "what was wrong")
        show_table(
            columns,
            [
                (chain.topic, str(chain.partition), letter.offset, letter.timestamp, letter.code.value, letter.source,
                 letter.image_path, letter.message)
                for chain, letter in found
            ],
        )  # fmt: skip
    else:
        note("There are no such dead letters.")
    if more:
        note(f"There are more than these {len(found)}; --limit shows more.")


def _as_json(chain: "ChainId", letter: "DeadLetter") -> dict[str, Any]:
    where = {"topic": chain.topic, "topic_id": chain.topic_id, "partition": chain.partition}
    return where | letter.to_json()
