"""Untrusted text cannot control a page or a shell, and numbers have their units."""

import subprocess
from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipeline.reports.wording import (
    clock,
    duration,
    hour_span,
    long_day,
    share,
    shell_word,
    short_number,
    size,
    visible,
)
from imgpipeline_tests.examples import examples

HOSTILE = ("$(touch x)", "`id`", "a'b", "; rm -rf /", "new\nline", "\u202eabc", "'\n\\", "--day", "\x7f\x1b[0m")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20))
@settings(max_examples=examples(30))
def test_a_shell_reads_a_word_as_it_was(text):
    done = subprocess.run(
        ["bash", "-c", f"printf %s {shell_word(text)}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode() == text
    assert shell_word(text).isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_shell_does_not_execute_a_word(text):
    done = subprocess.run(
        ["bash", "-c", f"printf %s {shell_word(text)}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode() == text


@given(st.text(), st.integers(1, 50))
def test_visible_text_is_printable_and_short(text, most):
    assert visible(text).isprintable()
    assert len(visible(text, most)) <= most


def test_printable_text_stays_the_same():
    assert visible("Straße مرحبا 猫") == "Straße مرحبا 猫"
    assert visible("a\u202eb\n") == "a\\u202eb\\n"
    assert visible("x" * 10, 4) == "xxx…"


def test_shares_never_round_to_zero_or_all():
    assert [share(*pair) for pair in ((0, 10), (1, 10**6), (1, 3), (10**6 - 1, 10**6), (5, 5), (0, 0))] == [
        *("0%", "<0.1%", "33.3%", ">99.9%", "100%", "\N{EN DASH}"),
    ]


def test_numbers_have_their_units():
    assert [size(n) for n in (0, 1023, 1024, 1536, 2**20, 15 * 2**30)] == [
        *("0 B", "1023 B", "1 kB", "1.5 kB", "1 MB", "15 GB"),
    ]
    assert [duration(s) for s in (0.25, 1, 61, 3600, 11100, 90000)] == [
        *("0.25 s", "1 s", "1 min 1 s", "1 h", "3 h 5 min", "1 d 1 h"),
    ]
    assert [short_number(n) for n in (0, 999, 1000, 1250, 12_345, 2_000_000)] == ["0", "999", "1k", "1.2k", "12k", "2M"]


def test_a_number_that_rounds_up_to_the_next_unit_is_shown_in_that_unit():
    assert [short_number(n) for n in (999_499, 999_600, 9_960)] == ["999k", "1M", "10k"]
    assert [size(n) for n in (1023 * 2**10, 2**20 - 1)] == ["1,023 kB", "1 MB"]


def test_days_and_times_are_english_and_utc_on_every_machine():
    assert long_day(date(2026, 1, 9)) == "Friday, 9 January 2026"
    assert clock(datetime(2026, 1, 9, 7, 5, 9, tzinfo=UTC)) == "07:05:09"
    assert clock(None) == "\N{EN DASH}"
    assert hour_span("23") == "23\N{EN DASH}24"
    assert hour_span("02 +01:00") == "02\N{EN DASH}03 +01:00"
