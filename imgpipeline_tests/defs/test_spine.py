"""From an announced image to a number without any manual step: real Kafka, real S3, and the real daemon.

The answers are asked for as any other program would: the Parquet is downloaded, and DuckDB reads it.
"""

import itertools
from datetime import date
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from imgpipeline_tests.defs.frames import START, announce_frames
from imgpipeline_tests.defs.site import Site
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.servers.waiting import wait_until

DAY = START.date()
pytestmark = pytest.mark.slow


def download(bucket: S3Bucket, key: str, to: Path) -> Path | None:
    """Fetch one object of the bucket with plain boto3; None if there is none."""
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "s3",
        endpoint_url=bucket.endpoint,
        aws_access_key_id=bucket.access_key_id,
        aws_secret_access_key=bucket.secret_access_key,
        region_name="us-east-1",
    )
    path = to / Path(key).name
    try:
        client.download_file(bucket.name, key, str(path))
    except client.exceptions.ClientError:
        return None
    return path


def summary_key(day: date) -> str:
    return f"summaries/label_counts/day={day}/label_counts.parquet"


def label_counts(bucket: S3Bucket, day: date, to: Path) -> dict[str, int]:
    """Return the count of each label in the day's summary; empty if there is no summary yet."""
    path = download(bucket, summary_key(day), to)
    if path is None:
        return {}
    rows = (
        duckdb.connect()
        .execute("SELECT label, sum(count)::INT FROM read_parquet(?) GROUP BY label", [str(path)])
        .fetchall()
    )
    return dict(rows)


def rows_of(bucket: S3Bucket, table: str, day: date, to: Path) -> int:
    path = download(bucket, f"{table}/day={day}/{table}.parquet", to)
    if path is None:
        return 0
    (rows,) = duckdb.connect().execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchall()
    return int(rows[0])


def materializations(site: Site, asset: str, partition: str | None = None) -> list[dg.AssetMaterialization]:
    """Return an asset's materializations, newest first."""
    keys = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition] if partition else None)
    with site.instance() as instance:
        records = instance.fetch_materializations(keys, limit=1000).records
    return [record.asset_materialization for record in records if record.asset_materialization]


def test_a_picture_announced_in_kafka_becomes_a_number_in_duckdb(site, bucket, shared_data, tmp_path):
    """The last frames of a day follow too, but not before a minute has passed."""
    model = shared_data / "models" / "yolox_nano.onnx"
    site.variables |= {"IMGPIPELINE_MODEL": str(model), "IMGPIPELINE_MODEL_DECODER": "yolox"}
    site.start_daemon()
    begin = ("--source", "pictures", "--start", START.isoformat())
    site.run("python", "-m", "imgpipeline.cli", "ingest", "folder", str(shared_data / "images"), *begin)
    wait_until(lambda: bool(label_counts(bucket, DAY, tmp_path)), limit_s=120, what="label_counts", interval_s=0.5)
    counts = label_counts(bucket, DAY, tmp_path)
    assert {"dog", "bicycle", "person"} <= counts.keys()
    assert {"car", "truck"} & counts.keys()
    pictures = len(list((shared_data / "images").glob("*.jpg")))
    assert rows_of(bucket, "frames", DAY, tmp_path) == pictures
    site.wait_for_runs_to_end()
    _check_what_the_ui_shows(site)

    announce_frames(site.settings, 3)
    all_frames = pictures + 3
    wait_until(lambda: rows_of(bucket, "frames", DAY, tmp_path) == all_frames, limit_s=400, what="the last frames")
    site.wait_for_runs_to_end()
    _check_the_pause_between_builds(site)


def _check_what_the_ui_shows(site: Site) -> None:
    shown = materializations(site, "detections", str(DAY))[0].metadata
    assert shown["dagster/row_count"].value > 0
    assert "| dog |" in str(shown["labels"].value)
    assert "data:image/jpeg;base64," in str(shown["sample"].value)
    assert len(str(shown["sample"].value)) <= 20_500
    assert materializations(site, "frames", str(DAY))[0].metadata["dagster/row_count"].value > 0
    assert "| dog |" in str(materializations(site, "label_counts", str(DAY))[0].metadata["rows"].value)


def _check_the_pause_between_builds(site: Site) -> None:
    with site.instance() as instance:
        built = instance.fetch_materializations(dg.AssetKey("frames"), limit=10).records
    assert min(later.timestamp - earlier.timestamp for later, earlier in itertools.pairwise(built)) >= 60
