"""The instance for servers: a real job with its history in PostgreSQL and its output in S3."""

import runpy
import uuid

import boto3
import dagster as dg
import pytest
import yaml

from imgpipeline.settings import Settings
from imgpipeline_tests.defs.frames import announce_frames
from imgpipeline_tests.defs.site import MODULE, REPOSITORY, make_site
from imgpipeline_tests.servers.postgres_server import USER
from imgpipeline_tests.servers.s3_server import S3Bucket

CONFIGURATION = REPOSITORY / "deploy" / "dagster.yaml"


def logged_output(bucket: S3Bucket) -> dict[str, str]:
    """Return what runs printed, by the key it is stored under, with plain boto3."""
    client = boto3.client(
        "s3",
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        region_name="us-east-1",
    )
    keys = [entry["Key"] for entry in client.list_objects_v2(Bucket=bucket.name).get("Contents", [])]
    logs = [key for key in keys if key.startswith("dagster-logs/")]
    return {key: client.get_object(Bucket=bucket.name, Key=key)["Body"].read().decode() for key in logs}


@pytest.mark.slow
def test_a_job_runs_with_its_history_in_postgresql_and_its_output_in_s3(site, postgres, bucket, monkeypatch):
    database = f"dagster_{uuid.uuid4().hex[:8]}"
    postgres.create_database(database)
    variables = site.variables | {
        "DAGSTER_POSTGRES_HOST": postgres.host,
        "DAGSTER_POSTGRES_PORT": str(postgres.port),
        "DAGSTER_POSTGRES_DB": database,
        "DAGSTER_POSTGRES_USER": USER,
        "DAGSTER_POSTGRES_PASSWORD": "the server trusts this machine",
        "DAGSTER_LOGS_BUCKET": bucket.name,
        "DAGSTER_LOGS_ENDPOINT": bucket.endpoint,
    }
    deployed = make_site(site.home.parent / "deployed", variables, CONFIGURATION)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    announce_frames(deployed.settings, 3)
    deployed.run("dagster", "job", "execute", "-m", MODULE, "-j", "detect_frames")

    with deployed.instance() as instance:
        assert "Postgres" in type(instance.event_log_storage).__name__
        (record,) = instance.get_run_records()
        reported = instance.fetch_materializations(dg.AssetKey("frame_metadata"), limit=10).records
    assert record.dagster_run.status is dg.DagsterRunStatus.SUCCESS
    assert reported
    logs = logged_output(bucket)
    assert all(record.dagster_run.run_id in key for key in logs)
    assert "RUN_SUCCESS" in "".join(logs.values()) or "STEP_SUCCESS" in "".join(logs.values())
    assert bucket.secret_access_key not in "".join(logs.values())


def test_all_that_is_secret_comes_from_the_environment():
    configuration = yaml.safe_load(CONFIGURATION.read_text())
    database = configuration["storage"]["postgres"]["postgres_db"]
    assert database["username"] == {"env": "DAGSTER_POSTGRES_USER"}
    assert database["password"] == {"env": "DAGSTER_POSTGRES_PASSWORD"}
    assert not [name for name in configuration["compute_logs"]["config"] if "key" in name or "secret" in name]


@pytest.mark.parametrize("path", ["dagster.yaml", "deploy/dagster.yaml"])
def test_detection_leaves_slots_for_the_tables(path):
    configuration = yaml.safe_load((REPOSITORY / path).read_text())
    queue = configuration["run_coordinator"]["config"]
    limits = {limit["value"]: limit["limit"] for limit in queue["tag_concurrency_limits"]}
    assert sum(limits.values()) < queue["max_concurrent_runs"]
    assert limits.keys() == {"detection", "tables", "redetection"}
    assert configuration["telemetry"] == {"enabled": False}
    assert configuration["retention"]["sensor"]["purge_after_days"]["skipped"] == 1


@pytest.mark.fault(45)
@pytest.mark.parametrize("path", [REPOSITORY / "dagster.yaml", CONFIGURATION], ids=["one machine", "servers"])
def test_fault_45_a_slow_start_is_left_to_the_sensor_which_grows_more_patient(path):
    """A run that starts too slowly is taken over; the next one gets twice as long, and Dagster must not end it."""
    monitoring = yaml.safe_load(path.read_text())["run_monitoring"]
    assert monitoring["start_timeout_seconds"] > 4 * Settings(_env_file=None).takeover_s


def test_the_instance_with_celery_differs_in_the_launcher_and_looks_for_lost_workers_more_often():
    one_machine = yaml.safe_load(CONFIGURATION.read_text())
    celery = yaml.safe_load((CONFIGURATION.parent / "celery" / "dagster.yaml").read_text())
    assert celery.pop("run_launcher")["class"] == "WatchfulCeleryLauncher"
    assert celery["run_monitoring"].pop("poll_interval_seconds") < one_machine["run_monitoring"].pop(
        "poll_interval_seconds"
    )
    assert celery == one_machine


def test_celery_workers_keep_results_and_messages_for_longer_than_a_run_may_take(monkeypatch):
    for name in ("IMGPIPELINE_CELERY_BROKER", "IMGPIPELINE_CELERY_BACKEND"):
        monkeypatch.setenv(name, "redis://localhost/0")
    workers = runpy.run_path(str(CONFIGURATION.parent / "celery" / "dagster_celery_config.py"))
    longest_run_s = yaml.safe_load(CONFIGURATION.read_text())["run_monitoring"]["max_runtime_seconds"]
    assert workers["result_expires"] > longest_run_s
    assert workers["broker_transport_options"]["visibility_timeout"] > longest_run_s
