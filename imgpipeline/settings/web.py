"""The viewer and the HTTP source: who may use them, and the videos that the HTTP source plays."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

from imgpipeline.settings.variables import either


class HttpSettings(BaseSettings):
    """The HTTP source and the viewer."""

    api_keys_file: Path = Field(
        Path(".imgpipeline") / "api_keys.json",
        description="File with the API keys of `serve` and `serve-ingest`; without keys, they serve this machine only.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of proxies that authenticate users, such as `10.0.3.7,fd00::/8`. `serve` "
        "trusts their `IMGPIPELINE_IDENTITY_HEADER`.",
    )
    identity_header: str = Field(
        "X-Forwarded-User",
        pattern=r"^[A-Za-z0-9-]{1,100}$",
        description="Header in which a trusted proxy names the user.",
    )
    dagster_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/@?#]+(/[^\s?#]*)?)?$",
        description="Address of Dagster's UI, such as `https://dagster.example`; the viewer links to its runs.",
    )
    viewer_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/@?#]+(/[^\s?#]*)?)?$",
        description="Address of the viewer, such as `https://viewer.example`; Dagster's pages link to its days.",
    )
    dataset_root: Path | None = Field(
        None,
        validation_alias=either("DATASET_ROOT", "DATASET_ROOT_DIR"),
        description="Folder with the videos and `sequences/NAME/` that `POST /start/{video}` of `serve-ingest` plays.",
    )
    jobs_dir: Path = Field(
        Path(".imgpipeline") / "jobs",
        description="Folder in which `serve-ingest` records its progress in playing videos.",
    )
    start_waits: bool = Field(
        False,
        description="`POST /start/{video}` answers when the last frame is announced, like the classic data generator, "
        "instead of at once.",
    )
