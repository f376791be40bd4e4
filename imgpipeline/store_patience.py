"""How long the object store may be silent or in trouble; `settings` takes these fields in."""

from pydantic import Field
from pydantic_settings import BaseSettings


class StorePatience(BaseSettings):
    """Time limits of requests to an S3 store."""

    store_timeout_s: float = Field(
        15.0,
        gt=0,
        le=600,
        description="A request fails when the S3 store sends nothing for this long. Objects over 4 MB get more time to "
        "be sent: one second for each 0.5 MB.",
    )
    store_patience_s: float = Field(
        45.0,
        ge=0,
        le=600,
        description="A request to the S3 store that failed in a way that may pass (connection refused or reset, no "
        "answer in time, 5xx) is repeated for this long. `doctor` and `status` repeat it for 5 s at most.",
    )
