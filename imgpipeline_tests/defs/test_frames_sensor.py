"""The Kafka sensor with real Kafka and S3, and Dagster's storage in memory."""

import signal
import subprocess
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from kafka import TopicPartition

from imgpipeline.contracts.keys import detection_state_key, segment_key
from imgpipeline.definitions import defs
from imgpipeline.defs.assets.frame_metadata import STOPPED_CHECK
from imgpipeline.defs.detection_job import JOB_NAME, lane_of, run_config_of
from imgpipeline.defs.frames_sensor import frames_sensor
from imgpipeline.defs.lost_runs import describe_process
from imgpipeline.defs.run_records import failed_runs, format_ends, live_runs, parse_ends
from imgpipeline.defs.run_tags import ENDING_TAG, ENDS_TAG, FAILURE_TAG, PROCESS_TAG, noted
from imgpipeline.detect.run import follow_lane
from imgpipeline.ledger.reading import find_last, list_chains
from imgpipeline.objectstore import open_store
from imgpipeline.stream.connection import open_admin
from imgpipeline.stream.lanes import Ending, Lane, Place
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.sensor import EVERYTHING, Sensor
from imgpipeline_tests.defs.site import Site
from imgpipeline_tests.defs.test_lost_runs import GONE
from imgpipeline_tests.faults.child_runs import environment_of
from imgpipeline_tests.faults.invariant import check
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.viewing import viewing


@pytest.fixture
def sensor(site: Site, monkeypatch: pytest.MonkeyPatch) -> Sensor:
    return Sensor(site, monkeypatch)


def follow(site: Site) -> None:
    follow_lane(site.settings.model_copy(update={"linger_s": 0.2}), EVERYTHING, run_id="x", report=lambda _: None)


def test_it_looks_every_five_seconds():
    assert frames_sensor.minimum_interval_seconds == 5


@pytest.mark.parametrize("topic", [4], indirect=True)
def test_it_requests_a_run_for_each_lane_with_lag_and_none_when_all_is_done(sensor):
    assert "Nothing new: the ledger has reached the end of the log in 4 partitions" in sensor.skip_reason()
    sensor.set(IMGPIPELINE_LANES="2")
    for n in range(8):
        announce_frames(sensor.site.settings, 1, source=f"camera-{n}")
    requests = sensor.requests()
    assert {lane_of(r.run_config) for r in requests} == {Lane(0, 2), Lane(1, 2)}
    assert all(r.run_key is None for r in requests)
    assert sum(len(parse_ends(r.tags[ENDS_TAG])) for r in requests) >= 2
    follow(sensor.site)
    assert "Nothing new" in sensor.skip_reason()


@pytest.mark.slow
@pytest.mark.fault(12)
@pytest.mark.parametrize("topic", [2], indirect=True)
def test_a_partition_whose_records_expired_gets_no_run_and_fails_the_check_until_the_loss_is_accepted(sensor, tmp_path):
    settings = sensor.site.settings
    announce_frames(settings, 3)
    follow(sensor.site)
    announce_frames(settings, 5)
    [at] = [TopicPartition(log.topic, log.partition) for log in read_log(settings) if log.log_end]
    with open_admin(settings) as admin:
        admin.delete_records({at: 5})
    lost = f"[3, 5) of {at.topic}/{at.partition}"

    stopped = sensor.tick()
    assert not stopped.run_requests
    assert lost in str(stopped.skip_reason)
    [failed] = stopped.asset_events
    assert (failed.check_name, failed.passed) == (STOPPED_CHECK, False)
    assert lost in str(failed.description)
    assert not sensor.tick().asset_events  # only changes are reported

    environment = environment_of(settings)
    status = run("status", "--json", env=environment, cwd=tmp_path)
    assert [lost in str(row["problem"]) for row in status.json()["partitions"]].count(True) == 1
    assert lost in run("status", env=environment, cwd=tmp_path).stderr
    for command in ("doctor", "health"):
        ended = run(command, "--json", env=environment, cwd=tmp_path)
        assert (ended.status, lost in ended.stdout) == (1, True)
    with viewing(settings) as viewer:
        assert lost in viewer.get("/").text

    assert run("ledger", "accept-loss", "--yes", env=environment, cwd=tmp_path).status == 0
    resumed = sensor.tick()
    assert len(resumed.run_requests or []) == 1
    [passed] = resumed.asset_events
    assert passed.passed


@pytest.mark.slow
@pytest.mark.fault(40)
@pytest.mark.parametrize("topic", [2], indirect=True)
def test_a_partition_whose_last_segment_is_damaged_stops_alone(sensor, tmp_path):
    settings, store = sensor.site.settings, open_store(sensor.site.settings)
    sources = [f"camera-{n}" for n in range(6)]
    for source in sources:
        announce_frames(settings, 1, source=source)
    follow(sensor.site)
    hurt, sound = list_chains(store)
    last = find_last(store, hurt)
    key = segment_key(hurt, last.start)
    store.put(key, b"")
    for source in sources:
        announce_frames(settings, 1, source=source)

    result = sensor.tick()

    [request] = result.run_requests or []
    assert [place.partition for place in parse_ends(request.tags[ENDS_TAG])] == [sound.partition]
    [failed] = result.asset_events
    assert (failed.check_name, failed.passed, key in str(failed.description)) == (STOPPED_CHECK, False, True)
    follow(sensor.site)
    environment = environment_of(settings)
    status = run("status", "--json", env=environment, cwd=tmp_path).json()["partitions"]
    assert {row["partition"]: (key in str(row["problem"]), row["lag"]) for row in status} == {
        hurt.partition: (True, None),
        sound.partition: (False, 0),
    }
    for command in ("doctor", "health"):
        ended = run(command, "--json", env=environment, cwd=tmp_path)
        assert (ended.status, key in ended.stdout) == (1, True)

    assert run("ledger", "repair", env=environment, cwd=tmp_path).status == 0
    follow(sensor.site)
    assert len(check(settings).frames) == 2 * len(sources)


@pytest.mark.slow
@pytest.mark.fault(64)
def test_health_names_the_error_of_failing_runs_and_a_sensor_that_is_off(sensor, tmp_path):
    settings = sensor.site.settings
    environment = environment_of(settings)

    def problem_of(*options: str) -> str:
        return str(run("health", *options, "--json", env=environment, cwd=tmp_path).json()["problems"])

    announce_frames(settings, 1)
    follow(sensor.site)
    announce_frames(settings, 1)
    assert problem_of() == problem_of("--lag", "3600") == "{}"
    assert "frames_sensor has not read the topics yet" in problem_of("--lag", "0")
    damaged = {ENDING_TAG: Ending.FAILED.value, FAILURE_TAG: "The model is damaged."}
    for _ in range(2):
        sensor.add_run(dg.DagsterRunStatus.FAILURE, notes=damaged, **{ENDS_TAG: "0:1"})
    sensor.tick()
    failing = "2 detection runs failed at the same offset: The model is damaged."
    assert failing in problem_of()
    assert failing in run("status", env=environment, cwd=tmp_path).stderr
    with viewing(settings) as viewer:
        assert failing in viewer.get("/").text
    open_store(settings).put(detection_state_key(), b'{"at": "2026-01-09T12:00:00Z", "failing_runs": 2}')
    assert "frames_sensor has not read the topics since 2026-01-09T12:00:00" in problem_of()
    follow(sensor.site)
    assert problem_of() == problem_of("--lag", "0") == "{}"


def test_a_live_run_keeps_it_waiting_and_an_ended_one_does_not(sensor):
    announce_frames(sensor.site.settings, 1)
    run_id = sensor.add_run(dg.DagsterRunStatus.STARTED)
    assert f"run {run_id[:8]} follows it" in sensor.skip_reason()
    sensor.instance.report_run_failed(sensor.instance.get_run_by_id(run_id))
    assert len(sensor.requests()) == 1


@pytest.mark.fault(41)
def test_fault_41_runs_whose_process_is_gone_are_marked_and_replaced_at_once_and_never_fill_the_queue(sensor):
    announce_frames(sensor.site.settings, 1)
    dead = [sensor.add_run(dg.DagsterRunStatus.STARTED, notes={PROCESS_TAG: GONE}) for _ in range(20)]
    assert len(sensor.requests()) == 1
    assert {sensor.status(run_id) for run_id in dead} == {dg.DagsterRunStatus.FAILURE}
    assert live_runs(sensor.instance, datetime.now(UTC), datetime.now(UTC)) == []


@pytest.mark.slow
@pytest.mark.fault(41)
@pytest.mark.timeout(60, func_only=True)
def test_fault_41_a_broker_that_is_away_is_a_skip_reason_and_lost_builds_are_marked_nevertheless(sensor):
    """After a power failure, Dagster still shows a build as started; automation would wait an hour for it."""
    sensor.set(IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
    job = defs.resolve_implicit_global_asset_job_def()
    run_id = sensor.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED).run_id
    sensor.instance.add_run_tags(run_id, noted(run_id, PROCESS_TAG, GONE))
    assert "Kafka" in sensor.skip_reason()
    assert sensor.status(run_id) is dg.DagsterRunStatus.FAILURE


@pytest.mark.fault(7)
def test_fault_7_a_run_that_a_daemon_created_and_never_submitted_does_not_keep_its_lane_waiting(sensor, monkeypatch):
    announce_frames(sensor.site.settings, 1)
    run_id = sensor.add_run(dg.DagsterRunStatus.NOT_STARTED)
    assert "waits for a slot" in sensor.skip_reason()
    monkeypatch.setattr("imgpipeline.defs.frames_sensor.utc_now", lambda: datetime.now(UTC) + timedelta(minutes=3))
    assert len(sensor.requests()) == 1
    assert sensor.status(run_id) is dg.DagsterRunStatus.FAILURE


def test_a_run_without_progress_is_overtaken_after_the_time_of_the_setting_and_its_process_killed(sensor):
    sensor.set(IMGPIPELINE_TAKEOVER_S="1")
    announce_frames(sensor.site.settings, 1)
    process = subprocess.Popen(["sleep", "600"])
    try:
        run_id = sensor.add_run(dg.DagsterRunStatus.STARTED, notes={PROCESS_TAG: describe_process(process.pid)})
        assert "follows it" in sensor.skip_reason()
        wait_until(lambda: len(sensor.requests()) == 1, limit_s=60, what="the takeover", interval_s=0.2)
        assert process.wait(60) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()
    assert sensor.status(run_id) is dg.DagsterRunStatus.FAILURE


@pytest.mark.fault(43)
def test_fault_43_a_run_is_not_taken_over_for_the_time_it_waited_in_the_queue(sensor, monkeypatch):
    began = datetime.now(UTC)

    def at(after_s: float) -> datetime:
        now = began + timedelta(seconds=after_s)
        monkeypatch.setattr("imgpipeline.defs.frames_sensor.utc_now", lambda: now)
        return now

    announce_frames(sensor.site.settings, 1)
    run_id = sensor.add_run(dg.DagsterRunStatus.NOT_STARTED)
    at(0)
    assert "waits for a slot" in sensor.skip_reason()
    launched = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_STARTING.value, job_name=JOB_NAME)
    sensor.instance.report_dagster_event(launched, run_id, timestamp=at(900).timestamp())
    at(1070)
    assert f"run {run_id[:8]} follows it" in sensor.skip_reason()
    at(1090)
    assert len(sensor.requests()) == 1
    (failure,) = sensor.instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "no progress for 190 s while its lane had lag; it has been running for 190 s" in failure.message


def test_failures_at_one_ledger_end_make_it_back_off_and_say_so(sensor):
    announce_frames(sensor.site.settings, 1)
    (request,) = sensor.requests()
    for _ in range(3):
        run_id = sensor.add_run(dg.DagsterRunStatus.STARTED, **{ENDS_TAG: request.tags[ENDS_TAG]})
        sensor.instance.report_run_failed(sensor.instance.get_run_by_id(run_id))
    assert len(failed_runs(sensor.instance, datetime.now(UTC))) == 3
    assert "3 runs failed at this ledger end" in sensor.skip_reason()


@pytest.mark.fault(9)
@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("notes", "is_careful"),
    [
        ({PROCESS_TAG: describe_process()}, True),
        ({PROCESS_TAG: describe_process(), ENDING_TAG: Ending.FAILED.value}, False),
    ],
    ids=["died", "failed with an error"],
)
def test_fault_38_what_became_of_three_runs_decides_whether_the_next_is_careful(sensor, notes, is_careful):
    sensor.set(IMGPIPELINE_RETRY_PAUSE_S="0.01")
    announce_frames(sensor.site.settings, 1)
    (first,) = sensor.requests()
    for _ in range(3):
        run_id = sensor.add_run(dg.DagsterRunStatus.STARTED, notes=notes, **{ENDS_TAG: first.tags[ENDS_TAG]})
        sensor.instance.report_run_failed(sensor.instance.get_run_by_id(run_id))
    made: list[dg.RunRequest] = []
    wait_until(lambda: made.extend(sensor.requests()) or bool(made), limit_s=60, what="the end of the pause")
    (request,) = made
    assert request.run_config == run_config_of(EVERYTHING, careful=is_careful)
    assert ("imgpipeline/careful" in request.tags) == is_careful


@pytest.mark.fault(9)
def test_fault_9_a_sensor_that_forgets_hides_no_frame_and_repeats_none(sensor):
    announce_frames(sensor.site.settings, 3)
    follow(sensor.site)
    assert "Nothing new" in sensor.skip_reason()
    announce_frames(sensor.site.settings, 2)
    sensor.forget()
    (request,) = sensor.requests()
    assert parse_ends(request.tags[ENDS_TAG]) == {Place(0, 0): 3}
    follow(sensor.site)
    assert "Nothing new" in sensor.skip_reason()
    check(sensor.site.settings)


def test_what_is_wrong_is_the_skip_reason_and_names_the_setting(sensor):
    sensor.set(IMGPIPELINE_KAFKA_TOPIC="no-such-topic")
    assert "There is no topic 'no-such-topic'" in sensor.skip_reason()
    sensor.set(**sensor.site.variables | {"AWS_SECRET_ACCESS_KEY": "canary-secret"})
    reason = sensor.skip_reason()
    assert "AWS_SECRET_ACCESS_KEY" in reason
    assert "canary-secret" not in reason


def test_a_topic_that_is_absent_is_named_and_the_other_is_followed(sensor):
    topic = sensor.site.settings.kafka_topic
    sensor.set(IMGPIPELINE_KAFKA_TOPIC=f"absent,{topic}", IMGPIPELINE_LANES="2")
    assert "There is no topic 'absent'" in sensor.skip_reason()
    announce_frames(sensor.site.settings.model_copy(update={"kafka_topics": (topic,)}), 3)
    [request] = sensor.requests()
    assert parse_ends(request.tags[ENDS_TAG]) == {Place(1, 0): 0}
    assert lane_of(request.run_config) == Lane(1, 2)


def test_ledger_ends_survive_their_tag():
    ends = {Place(n % 2, n): n * 1000 for n in range(64)}
    assert parse_ends(format_ends(ends)) == ends
    assert parse_ends(format_ends({Place(0, 99): 5, **ends})) == {Place(0, 99): 5, **dict(list(ends.items())[:63])}
    assert parse_ends("garbage 1:x :3 a/1:3 2:5") == {Place(0, 2): 5}
