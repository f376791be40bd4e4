"""Answers: the newest one of each person, in the order in which people came."""

from dataclasses import replace
from datetime import timedelta

import pytest

from imgpipeline.accuracy.answers import Answer, check_answer, keep_answer, read_answers
from imgpipeline.accuracy.plans import Plan, days_with_plans, list_inputs, make_plan
from imgpipeline.contracts.keys import answers_prefix, numbered_key
from imgpipeline.errors import PermanentError, UsageError
from imgpipeline.objectstore import ObjectStore
from imgpipeline_tests.accuracy.samples import DAY, NOON, places, population
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, fresh_store

FIRST, SECOND = (frame_id for _, frame_id in places(0, 2))
ANSWER = Answer(DAY, "gate", FIRST, "ada", NOON, {"person": 3}, missing=(("person", 1.5, 2.0),))


@pytest.fixture(params=SHARED_KINDS)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A fresh store: a folder, or a prefix of a real S3 bucket."""
    return fresh_store(request.param, request)


@pytest.fixture
def plan(store: ObjectStore) -> Plan:
    """A plan whose samples are both frames."""
    return Plan((make_plan(store, population(places(0, 2)), labels=["person"], samples=2, by="ada", at=NOON),))


def test_an_answer_is_read_as_it_was_given(store):
    keep_answer(store, ANSWER)
    assert read_answers(store, DAY, "gate") == [ANSWER]
    assert read_answers(store, DAY, "yard") == []


def test_a_newer_answer_of_the_same_person_replaces_the_older_one(store):
    later = replace(ANSWER, at=NOON + timedelta(minutes=1), counts={"person": 4})
    for each in (ANSWER, later):
        keep_answer(store, each)
    assert read_answers(store, DAY, "gate") == [later]
    assert len(list_inputs(store, DAY)) == 2


def test_the_first_person_stays_first_after_a_correction(store):
    bob = replace(ANSWER, by="bob", counts={"person": 5})
    corrected = replace(ANSWER, counts={"person": 4})
    for each in (ANSWER, bob, corrected):
        keep_answer(store, each)
    assert read_answers(store, DAY, "gate") == [corrected, bob]


def test_an_answer_that_was_stored_twice_counts_once(store):
    for _ in range(2):
        keep_answer(store, ANSWER)
    assert read_answers(store, DAY, "gate") == [ANSWER]


def test_an_answer_changes_the_mark_of_its_day(store, plan):
    keep_answer(store, ANSWER)
    before = days_with_plans(store)[plan.day]
    keep_answer(store, replace(ANSWER, frame_id=SECOND))
    assert days_with_plans(store)[DAY] != before


def test_an_answer_must_fit_the_plan(plan):
    check_answer(plan, ANSWER)
    check_answer(plan, replace(ANSWER, counts={}, cannot_tell=True))
    for counts in ({}, {"person": -1}, {"person": 1, "dog": 1}, {"dog": 1}):
        with pytest.raises(UsageError, match="expected one from 0 on for each of: person"):
            check_answer(plan, replace(ANSWER, counts=counts))
    with pytest.raises(UsageError, match="is not in the sample of gate"):
        check_answer(plan, replace(ANSWER, frame_id="f" * 32))


def test_a_damaged_answer_is_named(store):
    keep_answer(store, ANSWER)
    key = numbered_key(f"{answers_prefix(DAY, 'gate')}/{FIRST}", 1)
    store.put(key, b'{"by": 1}')
    with pytest.raises(PermanentError, match=key):
        read_answers(store, DAY, "gate")
