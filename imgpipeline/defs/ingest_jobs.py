"""The jobs `ingest_folder` and `ingest_video`: finite sources that are configured in the launchpad."""

from datetime import datetime
from pathlib import Path

import dagster as dg
from pydantic import Field

from imgpipeline.contracts.times import find_timezone, parse_time
from imgpipeline.defs.resources import Pipeline, known_failures
from imgpipeline.defs.run_tags import WORK_TAG
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings


class IngestFolderConfig(dg.Config):
    """The folder to ingest."""

    path: str = Field(description="Folder of images, on the machine that runs this job.")
    source: str = Field(description="Name of the camera or folder.")


class IngestVideoConfig(dg.Config):
    """The video to ingest, and the choice of its frames."""

    path: str = Field(description="Video file, on the machine that runs this job.")
    source: str = Field("", description="Name of the camera. Default: the file's name.")
    start: str = Field(
        "", description="Time of the first frame, RFC 3339. Default: from the video's metadata, else the file's time."
    )
    fps: float = Field(0.0, ge=0, description="Maximum number of frames per second of video; 0 takes all.")


@dg.op(name="publish_folder")
def folder_op(context: dg.OpExecutionContext, config: IngestFolderConfig, pipeline: Pipeline) -> None:
    """Stores and announces the images of a folder; a repeated run counts nothing twice."""
    from imgpipeline.sources.folder import open_folder  # noqa: PLC0415 - loads OpenCV
    from imgpipeline.sources.ingest import ingest_files  # noqa: PLC0415 - as above

    with known_failures():
        settings = pipeline.settings()
        result = ingest_files(settings, open_folder(settings, Path(config.path), config.source))
    context.add_output_metadata({
        "source": result.source,
        "announced": result.announced,
        "stored": result.stored,
        "skipped": len(result.skipped),
        "bytes": result.size_bytes,
    })  # fmt: skip


@dg.op(name="publish_video")
def video_op(context: dg.OpExecutionContext, config: IngestVideoConfig, pipeline: Pipeline) -> None:
    """Stores and announces frames of a video; a repeated run counts nothing twice."""
    from imgpipeline.sources.ingest import ingest_files  # noqa: PLC0415 - loads OpenCV and kafka-python
    from imgpipeline.sources.video import FrameChoice, VideoSource  # noqa: PLC0415 - as above

    with known_failures():
        settings, path = pipeline.settings(), Path(config.path)
        start = _start(config.start, settings)
        choice = FrameChoice(rate=config.fps or None)
        video = VideoSource(path, config.source or path.stem or "video", start=start, choice=choice)
        result = ingest_files(settings, video)
    for skipped in result.skipped:
        context.log.warning(f"Not read: {skipped.reason}.")
    context.add_output_metadata(
        {"source": result.source, "announced": result.announced, "failed": result.failed, "file": str(path)}
    )


def _start(text: str, settings: Settings) -> datetime | None:
    try:
        return parse_time(text, find_timezone(settings.timezone)) if text else None
    except ValueError as error:
        raise ConfigurationError(f"start is {text!r}: {error}.", next_step="enter an RFC 3339 time") from None


@dg.job(
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "ingest"},
    description="Stores the images of a folder and announces them in Kafka.",
)
def ingest_folder() -> None:
    """Ingests a folder."""
    folder_op()


@dg.job(
    executor_def=dg.in_process_executor,
    tags={WORK_TAG: "ingest"},
    description="Extracts frames from a video and announces them in Kafka.",
)
def ingest_video() -> None:
    """Ingests a video."""
    video_op()
