"""`imgpipeline build`: days are built without Dagster."""

from datetime import timedelta
from pathlib import Path

import pytest

from imgpipeline.contracts.keys import report_key, summary_key
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.lake.samples import seen
from imgpipeline_tests.ledger.samples import DAY, write_chain
from imgpipeline_tests.objectstore.stores import fresh_store

NEXT = DAY + timedelta(days=1)


@pytest.mark.medium
def test_a_day_is_built_once_and_then_current(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store = fresh_store("folder", request)
    write_chain(store, [seen(0, day=DAY)])
    env = {"IMGPIPELINE_STORE_URL": store.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, second = (run("build", "--day", str(DAY), "--json", env=env, cwd=tmp_path).json() for _ in range(2))
    assert {row["outcome"] for row in first} == {"built"}
    assert {row["outcome"] for row in second} == {"current"}
    assert first[0]["object"] == "day_tables"
    assert store.head(report_key(DAY)) is not None


@pytest.mark.medium
def test_what_cannot_be_built_is_named_and_the_rest_is_built(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store = fresh_store("folder", request)
    write_chain(store, [seen(0, day=DAY)])
    store.put(summary_key("label_counts", DAY), b"rotten")
    env = {"IMGPIPELINE_STORE_URL": store.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = run("build", "--from", str(DAY), "--to", str(DAY), env=env, cwd=tmp_path)
    assert ended.status == 1
    assert f"1 object could not be built: label_counts of {DAY}." in ended.stderr
    assert store.head(report_key(DAY)) is not None
    assert store.head(summary_key("label_totals", DAY)) is None, "it needs the counts"


@pytest.mark.medium
def test_a_range_includes_days_without_tables(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store = fresh_store("folder", request)
    write_chain(store, [seen(0, day=DAY)], [seen(1, day=NEXT)])
    env = {"IMGPIPELINE_STORE_URL": store.url, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    built = run("build", "--from", str(DAY), "--to", str(NEXT), "--json", env=env, cwd=tmp_path).json()
    assert {row["day"] for row in built} == {str(DAY), str(NEXT)}
    assert {row["outcome"] for row in built} == {"built"}
    refused = run("build", "--from", "2020-01-01", "--to", "2020-01-02", env=env, cwd=tmp_path)
    assert f"No day of 2020-01-01 to 2020-01-02 has frames. Days that have: {DAY}, {NEXT}." in refused.stderr
