"""Kafka: brokers, topics and login."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from imgpipeline.contracts.keys import IMPORT_TOPICS
from imgpipeline.settings.variables import SettingsGroup, either, split_list

KafkaProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
NOTICES_APART = "-notices"
"""Suffix of the topic for notices: `frames-notices` belongs to `frames`."""


class KafkaSettings(SettingsGroup):
    """Kafka."""

    kafka_bootstrap_servers: str = Field(
        "localhost:9092", validation_alias=either("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_BROKER")
    )
    """Brokers, `host:port`, separated by commas."""
    kafka_topics: Annotated[tuple[str, ...], NoDecode] = Field(("frames",), validation_alias=either("KAFKA_TOPIC"))
    """Topic of the announced frames, or several, separated by commas: `car-frames,person-frames`. The same detectors
    process all of them; our own sources announce on the first, in the format `classic-video` on all. If `TOPIC-notices`
    is in the list, their notices go there, and TOPIC holds frames only."""
    kafka_group: str = "imgpipeline"
    """Consumer group whose offsets show the progress to other tools."""
    kafka_security_protocol: KafkaProtocol = "PLAINTEXT"
    """Protocol of the connections to the brokers."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """Login mechanism of the protocols with SASL."""
    kafka_username: str | None = Field(None, validation_alias=either("KAFKA_USERNAME", "KAFKA_USERNAME"))
    """User name for SASL."""
    kafka_password: SecretStr | None = Field(None, validation_alias=either("KAFKA_PASSWORD", "KAFKA_PASSWORD"))
    """Password for SASL."""
    kafka_user_password: SecretStr | None = Field(
        None, validation_alias=either("KAFKA_USER_PASSWORD", "KAFKA_USER_PASSWORD")
    )
    """Password for SASL if `IMGPIPELINE_KAFKA_PASSWORD` is not set. The user is then `admin`, unless
    `IMGPIPELINE_KAFKA_USERNAME` names another."""
    kafka_ca_file: Path | None = None
    """PEM file of the authority that signed the brokers' certificates."""
    kafka_transactions: bool = True
    """Announce live sources in transactions, so that a newer supervisor takes over from an older one. `false` for
    brokers without transactions, such as the demo's."""
    kafka_api_version: str | None = Field(None, pattern=r"^\d+(\.\d+)+$")
    """Protocol version of a broker that does not report it, such as `2.3` for the demo's; usually unset."""

    @model_validator(mode="after")
    def _take_password_of_admin(self) -> Self:
        if self.kafka_user_password and not self.kafka_password:
            self.__dict__["kafka_password"] = self.kafka_user_password
            self.__dict__["kafka_username"] = self.kafka_username or "admin"
        return self

    @property
    def kafka_topic(self) -> str:
        """The first topic, on which our own sources announce."""
        return self.kafka_topics[0]

    @property
    def notices_topic(self) -> str:
        """The topic for notices of our own sources: `TOPIC-notices` if it is followed, else the first topic."""
        apart = f"{self.kafka_topic}{NOTICES_APART}"
        return apart if apart in self.kafka_topics else self.kafka_topic

    @field_validator("kafka_topics", mode="before")
    @classmethod
    def _split_topics(cls, value: object) -> object:
        return split_list(value)

    @field_validator("kafka_topics")
    @classmethod
    def _check_topics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for topic in value:
            if not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", topic):
                raise ValueError(f"{topic[:60]!r} is not a valid topic name; expected letters, digits and . _ -")
            if topic in (".", "..") or topic.startswith(IMPORT_TOPICS):
                raise ValueError("`.`, `..` and names that begin with `import.` (imports) are not valid topic names")
        if not value or len(set(value)) < len(value):
            raise ValueError("expected at least one topic, and no duplicates")
        return value
