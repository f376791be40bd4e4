"""What is known of a day is yes, no, or "not known", and does not grow with days that have long been complete."""

from datetime import timedelta

from imgpipeline.lake.build.known_days import KnownDays
from imgpipeline.ledger.follow import OffsetRange
from imgpipeline_tests.ledger.samples import CHAIN, DAY

NEXT = DAY + timedelta(days=1)


def test_a_day_whose_segments_were_all_noted_is_known_exactly():
    news = KnownDays()
    news.note(CHAIN, 5, [DAY, NEXT])
    assert news.has_news(DAY, {}) is True
    assert news.has_news(DAY, {CHAIN: 5}) is True
    assert news.has_news(DAY, {CHAIN: 6}) is False
    assert news.has_news(DAY + timedelta(days=9), {}) is False


def test_of_other_days_only_what_was_noted_is_known():
    news = KnownDays()
    news.begin([DAY])
    assert news.has_news(DAY, {}) is None
    news.note(CHAIN, 5, [DAY])
    assert news.has_news(DAY, {CHAIN: 5}) is True
    assert news.has_news(DAY, {CHAIN: 6}) is None


def test_a_version_is_complete_until_a_segment_of_its_day_comes():
    news = KnownDays()
    news.note(CHAIN, 5, [DAY])
    news.note_complete(DAY, "tables", "v1")
    assert news.is_complete(DAY, "tables", "v1")
    assert not news.is_complete(DAY, "tables", "v2")
    assert not news.is_complete(DAY, "summaries", "v1")
    assert not news.is_complete(NEXT, "tables", "v1")
    news.note(CHAIN, 9, [DAY])
    assert not news.is_complete(DAY, "tables", "v1")


def test_nothing_is_complete_without_a_version():
    news = KnownDays()
    news.note(CHAIN, 5, [DAY])
    news.note_complete(DAY, "tables", "")
    assert not news.is_complete(DAY, "tables", "")


def test_a_repair_makes_its_days_doubtful():
    news = KnownDays()
    news.note(CHAIN, 5, [DAY])
    news.note(CHAIN, 8, [NEXT])
    news.note_complete(NEXT, "tables", "v1")
    news.forget(OffsetRange(CHAIN, 5, 8))
    assert news.has_news(DAY, {CHAIN: 100}) is None
    assert news.is_complete(NEXT, "tables", "v1")


def test_it_keeps_starts_of_recent_days_and_of_those_that_are_not_complete():
    news = KnownDays()
    days = [DAY + timedelta(days=n) for n in range(12)]
    for number, day in enumerate(days):
        news.note(CHAIN, number, [day])
        if number:
            news.note_complete(day, "tables", f"v{number}")
    kept = KnownDays.from_json(news.to_json())
    assert [day for day in days if kept.days[day].newest] == [days[0], *days[4:]]
    assert [day for day in days if kept.has_news(day, {CHAIN: 100}) is None] == days[1:4]
    assert all(kept.is_complete(day, "tables", f"v{number}") for number, day in enumerate(days) if number)
