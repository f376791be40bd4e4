"""The object store: its location and login, time limits, other image locations, and how long images are kept."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from imgpipeline.contracts.urls import check_endpoint, check_image_location, check_store_url
from imgpipeline.settings.variables import SettingsGroup, SourceLimits, either, limits_of, split_list

_Location = Annotated[str, AfterValidator(check_image_location)]
_Locations = Annotated[tuple[_Location, ...], BeforeValidator(split_list), NoDecode]


def _default_store_url() -> str:
    return (Path.cwd() / ".imgpipeline" / "store").as_uri()


class StoreSettings(SettingsGroup):
    """The object store."""

    store_url: Annotated[str, AfterValidator(check_store_url)] = Field(default_factory=_default_store_url)
    """Object store and prefix: `s3://bucket/prefix` (also `s3a://`) or `file:///folder`. Default: `.imgpipeline/store`
    below the working folder."""
    s3_endpoint: Annotated[str, AfterValidator(check_endpoint)] | None = Field(
        None, validation_alias=either("S3_ENDPOINT", "S3_ENDPOINT_URL")
    )
    """URL of an S3 server that is not AWS, such as `http://127.0.0.1:7070`."""
    s3_region: str = Field("us-east-1", validation_alias=either("S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"))
    """Region of the bucket."""
    s3_access_key_id: SecretStr | None = Field(
        None, validation_alias=either("S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID", "HETZNER_S3_ACCESS_KEY")
    )
    """S3 access key id."""
    s3_secret_access_key: SecretStr | None = Field(
        None, validation_alias=either("S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "HETZNER_S3_SECRET_KEY")
    )
    """S3 secret key."""
    s3_session_token: SecretStr | None = Field(None, validation_alias=either("S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"))
    """S3 session token."""
    allowed_image_locations: _Locations = ()
    """Additional buckets, prefixes and folders from which images may be read, separated by commas:
    `s3://camera-archive/2026,file:///app/frame_store`. Everything else becomes a `PATH_NOT_ALLOWED` dead letter."""
    store_timeout_s: float = Field(15.0, gt=0, le=600)
    """A request fails if the S3 store sends nothing for this long. Objects over 4 MB get more time to be sent: one
    second per 0.5 MB."""
    store_patience_s: float = Field(45.0, ge=0, le=600)
    """Requests to the S3 store with transient failures (connection refused or reset, no answer in time, 5xx) are
    repeated for this long; for 10 s at most while its server has never answered. `doctor` and `status` repeat them for
    5 s at most."""
    keep_images_days: Annotated[SourceLimits, limits_of("days", most=36_500), NoDecode] = SourceLimits()
    """Delete images stored by this project this many days after they were taken and stored, once their frames have an
    outcome. For some sources: `30,gate=7,archive=off`."""
    keep_images_bytes: Annotated[SourceLimits, limits_of("bytes", most=1e18), NoDecode] = SourceLimits()
    """Delete the oldest images stored by this project until the rest is at most this size in bytes. Each named source
    has its own limit, and all others share the number without a name: `2e12,gate=5e11,archive=off`."""
