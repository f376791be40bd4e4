"""Who is notified of events, and how many messages they get."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings


class AlertSettings(BaseSettings):
    """Alerts."""

    alert_targets: SecretStr | None = Field(
        None,
        description="Where alerts are sent: URLs of apprise, separated by spaces, such as `mailtos://…` or "
        "`ntfys://…`, or `NAME=URL` for rules that notify NAME. Unset: alerts are written, and not sent.",
    )
    alert_messages_per_minute: int = Field(
        10, ge=1, le=1000, description="If more alerts than this wait to be sent, they are sent as one summary."
    )
    alert_max_age_s: float = Field(
        3600.0, gt=0, description="Older events raise no alert, in seconds by the time of their frames."
    )
