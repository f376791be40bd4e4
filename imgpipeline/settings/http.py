"""The HTTP source: its keys, and the videos that it plays."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from imgpipeline.settings.variables import either


class HttpSettings(BaseSettings):
    """The HTTP source."""

    api_keys_file: Path = Field(
        Path(".imgpipeline") / "api_keys.json",
        description="File with the API keys of `serve-ingest`; without keys, it serves this machine only.",
    )
    dataset_root: Path | None = Field(
        None,
        validation_alias=either("DATASET_ROOT", "DATASET_ROOT_DIR"),
        description="Folder with the videos and `sequences/NAME/` that `POST /start/{video}` of `serve-ingest` plays.",
    )
    jobs_dir: Path = Field(
        Path(".imgpipeline") / "jobs",
        description="Folder in which `serve-ingest` records how far it has played videos.",
    )
    start_waits: bool = Field(
        False,
        description="`POST /start/{video}` answers when the last frame is announced, like the classic data generator, "
        "instead of at once.",
    )
