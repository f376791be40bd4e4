"""Answers: what people counted on the samples of a plan.

Answers are create-only. A newer one of the same person replaces the older one in estimates, and both stay stored. A
frame's first person gives its count; other people only show how far people agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache, partial
from typing import Any

from pydantic import NonNegativeInt, TypeAdapter

from imgpipeline.accuracy.plans import Plan, note_change
from imgpipeline.contracts.keys import answers_prefix, parse_number
from imgpipeline.contracts.times import Timestamp
from imgpipeline.errors import UsageError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.objectstore.numbered import append_entry, read_typed
from imgpipeline.objectstore.parallel import map_ahead


@dataclass(frozen=True)
class Answer:
    """What one person counted on one sample.

    Attributes:
        frame_id: The frame, or the slice of time.
        by: The person.
        counts: How many objects of each label of the plan are in the image; empty with `cannot_tell`.
        blind: Whether the person saw neither boxes nor the model's numbers.
        cannot_tell: The image does not show how many there are.
        wrong: The `detection_number` of the boxes that the person marked as wrong.
        missing: Label, x and y (pixels) of the objects that the person marked as missed.
        line: The line whose crossings the person counted.
    """

    day: date
    source: str
    frame_id: str
    by: str
    at: Timestamp
    counts: Mapping[str, NonNegativeInt] = field(default_factory=dict)
    blind: bool = False
    cannot_tell: bool = False
    wrong: tuple[NonNegativeInt, ...] = ()
    missing: tuple[tuple[str, float, float], ...] = ()
    line: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the document that is stored and that the API shows."""
        document: dict[str, Any] = _ANSWER.dump_python(self, mode="json")
        return document


_ANSWER = TypeAdapter(Answer)


def check_answer(plan: Plan, answer: Answer) -> None:
    """Checks that an answer fits its plan.

    Raises:
        UsageError: The frame is not in the sample, or a label is missing or unknown.
    """
    if answer.frame_id not in plan.run_of:
        raise UsageError(
            f"The frame {answer.frame_id} is not in the sample of {plan.source} on {plan.day}.",
            next_step="count the frames of the plan only: others were not chosen at random",
        )
    expected = set() if answer.cannot_tell else set(plan.labels)
    if answer.counts.keys() != expected or any(number < 0 for number in answer.counts.values()):
        raise UsageError(
            f"Got counts for {', '.join(sorted(answer.counts)) or 'no label'}; expected one from 0 on for each of: "
            f"{', '.join(sorted(expected)) or 'no label'}.",
            next_step="give one count for each label of the plan, or none with cannot_tell",
        )


def keep_answer(store: ObjectStore, answer: Answer) -> None:
    """Stores an answer.

    Raises:
        TransientError: The store does not answer. The caller may try again: a second copy replaces the first one.
    """
    append_entry(store, f"{answers_prefix(answer.day, answer.source, answer.line)}/{answer.frame_id}", answer.to_json())
    note_change(store, answer.day, answer.at)


def read_answers(store: ObjectStore, day: date, source: str, line: str | None = None) -> list[Answer]:
    """Returns the newest answer of each person to each frame; of a frame, the first person's comes first.

    Raises:
        PermanentError: An answer is damaged.
        TransientError: The store does not answer.
    """
    keys = sorted(info.key for info in store.list_objects(answers_prefix(day, source, line)) if parse_number(info.key))
    newest: dict[tuple[str, str], Answer] = {}
    for answer in map_ahead(partial(_read, store), keys):
        newest[answer.frame_id, answer.by] = answer  # a replaced entry keeps its place
    return list(newest.values())


def answered(store: ObjectStore, plan: Plan) -> set[str]:
    """Returns the samples of a plan that have an answer; errors as of `read_answers`."""
    given = read_answers(store, plan.day, plan.source, plan.line_name)
    return {answer.frame_id for answer in given}.intersection(plan.run_of)


@lru_cache(maxsize=10_000)  # the counting page asks for all answers to a plan again and again; they never change
def _read(store: ObjectStore, key: str) -> Answer:
    return read_typed(store, key, _ANSWER, expected="an answer")
