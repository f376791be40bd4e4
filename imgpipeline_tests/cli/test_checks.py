"""Checks run in parallel; none keeps another from being reported."""

import threading
from collections.abc import Iterator

import pytest

from imgpipeline.cli import checks
from imgpipeline.cli.checks import run_checks
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings

SETTINGS = Settings(_env_file=None)


def good(_: Settings) -> Iterator[tuple[str, str]]:
    yield "good", "found"


def half(_: Settings) -> Iterator[tuple[str, str]]:
    yield "first", "found"
    raise ConfigurationError("wrong", next_step="mend it")


def surprising(_: Settings) -> Iterator[tuple[str, str]]:
    yield from ()
    raise ZeroDivisionError


def silent(_: Settings) -> Iterator[tuple[str, str]]:
    threading.Event().wait()
    yield "object store", "never"


@pytest.mark.medium
def test_every_check_is_reported_in_order_whatever_the_others_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "LIMIT_S", 0.5)
    chosen = {
        ("object store", "behind it"): silent,
        ("first", "second", "third"): half,
        ("surprising",): surprising,
        ("good",): good,
    }
    results = run_checks(SETTINGS, chosen)
    assert [(result.name, result.status) for result in results] == [
        ("object store", "failed"),
        ("behind it", "not checked"),
        ("first", "ok"),
        ("second", "failed"),
        ("third", "not checked"),
        ("surprising", "failed"),
        ("good", "ok"),
    ]
    assert results[0].next_step == "check IMGPIPELINE_STORE_URL and IMGPIPELINE_S3_ENDPOINT"
    assert (results[3].message, results[3].next_step) == ("wrong", "mend it")
    assert results[4].message == "needs second"
    assert "ZeroDivisionError" in results[5].message
