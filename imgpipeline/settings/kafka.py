"""The brokers, the topic, and how to log in."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from imgpipeline.settings.variables import either


class KafkaSettings(BaseSettings):
    """Kafka."""

    kafka_bootstrap_servers: str = Field("localhost:9092", description="Brokers, `host:port`, separated by commas.")
    kafka_topic: str = Field("frames", pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic of the announced frames.")
    kafka_group: str = Field("imgpipeline", description="Consumer group under which progress is shown to other tools.")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="How to log in, where the security protocol has SASL in it."
    )
    kafka_username: str | None = Field(
        None, validation_alias=either("KAFKA_USERNAME", "KAFKA_USERNAME"), description="User name for SASL."
    )
    kafka_password: SecretStr | None = Field(
        None, validation_alias=either("KAFKA_PASSWORD", "KAFKA_PASSWORD"), description="Password for SASL."
    )
    kafka_user_password: SecretStr | None = Field(
        None,
        validation_alias=either("KAFKA_USER_PASSWORD", "KAFKA_USER_PASSWORD"),
        description="Password for SASL where `IMGPIPELINE_KAFKA_PASSWORD` is not set; the user is `admin` then, unless "
        "`IMGPIPELINE_KAFKA_USERNAME` names one.",
    )
    kafka_ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the brokers' certificates."
    )
    kafka_api_version: str | None = Field(
        None,
        pattern=r"^\d+(\.\d+)+$",
        description="Protocol version of a broker that cannot be asked for it, such as `2.3` for the demo's; "
        "usually unset.",
    )

    @model_validator(mode="after")
    def _take_password_of_admin(self) -> Self:
        if self.kafka_user_password and not self.kafka_password:
            self.__dict__["kafka_password"] = self.kafka_user_password
            self.__dict__["kafka_username"] = self.kafka_username or "admin"
        return self

    @field_validator("kafka_topic")
    @classmethod
    def _check_topic(cls, value: str) -> str:
        if value in (".", "..") or value.startswith("import."):
            raise ValueError("`.`, `..` and what begins with `import.` (imports) are no names of topics")
        return value
