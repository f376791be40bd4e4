"""Where the objects are, which image locations may be read, and how long the store may take to answer."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode

from imgpipeline.contracts.urls import check_endpoint, check_image_location, check_store_url
from imgpipeline.settings.variables import either, split_list

_Location = Annotated[str, AfterValidator(check_image_location)]
_Locations = Annotated[tuple[_Location, ...], BeforeValidator(split_list), NoDecode]


def _default_store_url() -> str:
    return (Path.cwd() / ".imgpipeline" / "store").as_uri()


class StoreSettings(BaseSettings):
    """The object store."""

    store_url: Annotated[str, AfterValidator(check_store_url)] = Field(
        default_factory=_default_store_url,
        description="Object store and prefix: `s3://bucket/prefix` (also `s3a://`) or `file:///folder`. "
        "Default: `.imgpipeline/store` below the working folder.",
    )
    s3_endpoint: Annotated[str, AfterValidator(check_endpoint)] | None = Field(
        None, description="URL of an S3 server that is not AWS, such as `http://127.0.0.1:7070`."
    )
    s3_region: str = Field(
        "us-east-1",
        validation_alias=either("S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="Region of the bucket.",
    )
    s3_access_key_id: SecretStr | None = Field(
        None,
        validation_alias=either("S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID", "HETZNER_S3_ACCESS_KEY"),
        description="S3 access key id.",
    )
    s3_secret_access_key: SecretStr | None = Field(
        None,
        validation_alias=either("S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "HETZNER_S3_SECRET_KEY"),
        description="S3 secret key.",
    )
    s3_session_token: SecretStr | None = Field(
        None,
        validation_alias=either("S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"),
        description="S3 session token.",
    )
    allowed_image_locations: _Locations = Field(
        (),
        description="Additional buckets, prefixes and folders from which images may be read, separated by "
        "commas: `s3://camera-archive/2026,file:///app/frame_store`. Everything else becomes a `PATH_NOT_ALLOWED` dead "
        "letter.",
    )
    store_timeout_s: float = Field(
        15.0,
        gt=0,
        le=600,
        description="A request fails if the S3 store sends nothing for this long. Objects over 4 MB get more time to "
        "be sent: one second per 0.5 MB.",
    )
    store_patience_s: float = Field(
        45.0,
        ge=0,
        le=600,
        description="Requests to the S3 store with transient failures (connection refused or reset, no answer in "
        "time, 5xx) are repeated for this long. `doctor` and `status` repeat them for 5 s at most.",
    )
    keep_images_days: float | None = Field(
        None,
        gt=0,
        le=36_500,
        description="Delete images that this project has stored this many days after they were taken and stored, once "
        "their frames have an outcome. Unset: never.",
    )
    keep_images_bytes: int | None = Field(
        None,
        ge=1,
        description="Delete the oldest images that this project has stored until the others have at most this size in "
        "bytes. Unset: no limit.",
    )
