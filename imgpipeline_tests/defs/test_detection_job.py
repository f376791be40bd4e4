"""The detection job as it is really started: by Dagster's commands, in processes of their own."""

import signal
import subprocess
from datetime import timedelta

import dagster as dg
import pytest

from imgpipeline.ledger import fix_ends
from imgpipeline.objectstore import open_store
from imgpipeline_tests.defs.frames import START, announce_frames
from imgpipeline_tests.defs.site import MODULE, PROGRAMS, Site
from imgpipeline_tests.servers.waiting import wait_until

EXECUTE = ("dagster", "job", "execute", "-m", MODULE, "-j", "detect_frames")


def ledger_end(site: Site) -> int:
    return sum(end.offset for end in fix_ends(open_store(site.settings)).values())


def reported(site: Site) -> list[dg.AssetMaterialization]:
    """Return the materializations of `frame_metadata`, oldest first."""
    with site.instance() as instance:
        records = instance.fetch_materializations(dg.AssetKey("frame_metadata"), limit=1000, ascending=True).records
    return [record.asset_materialization for record in records if record.asset_materialization]


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_without_configuration_it_follows_all_partitions_and_reports_each_day(site: Site) -> None:
    for n in range(4):
        announce_frames(site.settings, 3, start=START + timedelta(days=n % 2), source=f"camera-{n}")
    site.run(*EXECUTE)
    assert ledger_end(site) == 12
    last = {said.partition: said for said in reported(site)}
    assert sorted(last) == ["2026-03-01", "2026-03-02"]
    for said in last.values():
        assert said.metadata["frames_of_run"].value == 6
        assert said.metadata["lag"].value == 0
        assert {"frames_per_s", "latency_p50_s", "latency_p95_s"} <= said.metadata.keys()
        assert len((said.tags or {})["dagster/data_version"]) == 16
    (run,) = site.runs()
    assert run.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    assert run.dagster_run.tags["imgpipeline/lane"] == "0/1"
    assert run.dagster_run.tags["imgpipeline/work"] == "detection"


def test_new_segments_of_a_day_give_it_another_data_version(site: Site) -> None:
    for _ in range(2):
        announce_frames(site.settings, 2)
        site.run(*EXECUTE)
    versions = [(said.tags or {})["dagster/data_version"] for said in reported(site)]
    assert len(versions) >= 2
    assert versions[0] != versions[-1]


def test_a_known_error_is_the_description_of_the_failure_without_its_inside(site: Site) -> None:
    site.variables["IMGPIPELINE_KAFKA_TOPIC"] = "no-such-topic"
    done = site.run(*EXECUTE, check=False)
    assert done.returncode != 0
    (run,) = site.runs()
    with site.instance() as instance:
        (failure,) = (
            entry.dagster_event
            for entry in instance.all_logs(run.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        )
    assert failure is not None
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    assert "There is no topic 'no-such-topic'" in str(data.user_failure_data.description)
    assert "imgpipeline topics create" in str(data.user_failure_data.description)
    assert "kafka.errors" not in done.stdout + done.stderr
    assert site.variables["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_commits_and_reports_what_is_finished(site: Site, number: signal.Signals) -> None:
    site.variables["IMGPIPELINE_LINGER_S"] = "300"
    with (site.home / "execute.log").open("w") as log:
        process = subprocess.Popen(
            [PROGRAMS / EXECUTE[0], *EXECUTE[1:]], env=site.environment, cwd=site.home, stdout=log, stderr=log
        )
        try:
            wait_until(lambda: "STEP_START" in (site.home / "execute.log").read_text(), limit_s=60, what="the step")
            announce_frames(site.settings, 5)
            wait_until(lambda: ledger_end(site) > 0, limit_s=60, what="a segment", interval_s=0.1)
            process.send_signal(number)
            process.wait(30)
        finally:
            process.kill()
    assert ledger_end(site) > 0
    assert [said.partition for said in reported(site)] != []
    (run,) = site.runs()
    assert run.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    assert "ended by stopped" in (site.home / "execute.log").read_text()
