"""Runs that ended lately: counted by kind of work, read from the storage that DAGSTER_HOME names."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from imgpipeline.defs.recent_runs import read_recent_runs
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.errors import TransientError
from imgpipeline_tests.servers.ports import LOOPBACK, free_port


@dg.op
def work(context) -> None:
    if context.has_tag("broken"):
        raise dg.Failure("broken on purpose")


@dg.job(tags={WORK_TAG: "tables"})
def build():
    work()


@dg.job
def other():
    work()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.medium
def test_runs_of_the_last_hour_are_counted_by_kind_of_work(home):
    with dg.DagsterInstance.get() as instance:
        for job, tags in [(build, {}), (build, {"broken": "yes"}), (other, {"broken": "yes"})]:
            job.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    now = datetime.now(UTC)
    failed, seconds = read_recent_runs(now)
    assert failed == {"tables": 1, "other": 1}
    assert list(seconds) == ["tables"]
    assert 0 < seconds["tables"] < 60
    assert read_recent_runs(now + timedelta(hours=2)) == ({}, {})


@pytest.mark.slow  # Dagster tries six times to connect
def test_a_storage_that_cannot_be_read_is_an_error_without_its_password(home, caplog):
    database = {
        "username": "ada",
        "password": "secret-canary",
        "hostname": LOOPBACK,
        "db_name": "site",
        "scheme": "postgresql+psycopg2",
    }
    postgres = {"postgres_db": {**database, "port": free_port()}}
    (home / "dagster.yaml").write_text(json.dumps({"storage": {"postgres": postgres}}))  # JSON is YAML
    with pytest.raises(TransientError, match=r"DagsterPostgresException.*DAGSTER_HOME") as raised:
        read_recent_runs(datetime.now(UTC))
    assert "canary" not in str(raised.value) + caplog.text
