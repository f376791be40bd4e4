"""What is typed into the search box becomes filters and words, or an error that says what is wrong."""

import contextlib
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgpipeline.errors import UsageError
from imgpipeline.web.viewer.queries import words_of
from imgpipeline.web.viewer.search_text import FILTERS, parse_search

DAYS = (date(2026, 1, 9), date(2026, 1, 10))


def read(text: str) -> dict[str, object]:
    return parse_search(text, DAYS).filters.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("label:truck", {"label": "truck", "from": "2026-01-09"}, id="a filter is for all days"),
        pytest.param('source:"back yard"', {"source": "back yard", "from": "2026-01-09"}, id="quotes hold together"),
        pytest.param("after:2026-01-10", {"from": "2026-01-10"}, id="after includes its day"),
        pytest.param("before:2026-01-10", {"to": "2026-01-09"}, id="before excludes its day"),
        pytest.param("day:2026-01-10 min:0.5", {"day": "2026-01-10", "min_confidence": 0.5}, id="one day"),
        pytest.param("rain label:car wet", {"label": "car", "text": "rain wet", "from": "2026-01-09"}, id="words"),
        pytest.param('"label:car"', {"text": "label:car", "from": "2026-01-09"}, id="quoted is no filter"),
        pytest.param("s3://site/a.jpg", {"text": "s3://site/a.jpg", "from": "2026-01-09"}, id="a colon in a word"),
        pytest.param('"wet road" x', {"text": '"wet road" x', "from": "2026-01-09"}, id="a phrase"),
        pytest.param("", {"from": "2026-01-09"}, id="nothing"),
    ],
)
def test_filters_and_words(text: str, expected: dict[str, object]):
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("after:tomorrow", "after"),
        ("min:much", "min_confidence"),
        ("status:lost", "status"),
        ("hour:25", "hour"),
        ("label:car label:dog", "given twice"),
        ("after:2026-01-10 before:2026-01-09", "later"),
        ("before:0001-01-01", "no day before"),
    ],
)
def test_a_wrong_value_is_named(text: str, why: str):
    with pytest.raises(UsageError, match=why):
        read(text)


@given(st.lists(st.text(max_size=20) | st.sampled_from([f"{name}:" for name in FILTERS]), max_size=6).map("".join))
def test_any_text_is_read_or_refused_with_a_reason(text: str):
    with contextlib.suppress(UsageError):
        search = parse_search(text, DAYS)
        assert words_of(search.filters.text or "") == search.words
