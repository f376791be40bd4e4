"""The jobs that ingest a folder or a video from the launchpad."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from imgpipeline.definitions import defs
from imgpipeline.settings import load_settings
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.sources.published import frames_in, read_published
from imgpipeline_tests.sources.test_folder import write_picture
from imgpipeline_tests.sources.videos import write_video


@pytest.fixture(autouse=True)
def site(kafka: KafkaBroker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("IMGPIPELINE_KAFKA_TOPIC", topic)


def run(job: str, op: str, **config: object) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process({"ops": {op: {"config": config}}}, raise_on_error=False)


def test_a_folder_is_ingested(tmp_path):
    for number in range(3):
        write_picture(tmp_path / "in" / f"{number}.jpg", shade=number)
    assert run("ingest_folder", "publish_folder", path=str(tmp_path / "in"), source="gate").success
    assert [frame.source for frame in frames_in(read_published(load_settings()))] == ["gate"] * 3


def test_a_video_is_ingested(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    assert run("ingest_video", "publish_video", path=str(path), start="2026-01-09T12:00:00Z", fps=2.0).success
    frames = frames_in(read_published(load_settings()))
    assert [frame.frame_number for frame in frames] == [0, 5, 10, 15]
    assert frames[0].timestamp == datetime(2026, 1, 9, 12, tzinfo=UTC)


def test_a_missing_file_is_named_and_not_retried(tmp_path):
    result = run("ingest_folder", "publish_folder", path=str(tmp_path / "absent"), source="gate")
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "absent cannot be read" in str(failed.step_failure_data.error)
