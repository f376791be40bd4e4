"""The MQTT broker and the login."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings

from imgpipeline.settings.variables import either

_TOPIC = r"^[^+#/$\s\x00][^+#\s\x00]{0,199}$"


class MqttSettings(BaseSettings):
    """MQTT."""

    mqtt_host: str = Field(
        "localhost", validation_alias=either("MQTT_HOST", "MQTT_HOST"), description="Host of the MQTT broker."
    )
    mqtt_port: int = Field(
        1883,
        ge=1,
        le=65_535,
        validation_alias=either("MQTT_PORT", "MQTT_PORT"),
        description="Port of the MQTT broker; with TLS usually 8883.",
    )
    mqtt_username: str | None = Field(None, description="User name for the MQTT broker.")
    mqtt_password: SecretStr | None = Field(None, description="Password for the MQTT broker.")
    mqtt_password_file: Path | None = Field(
        None, description="File whose first line is the password, if `IMGPIPELINE_MQTT_PASSWORD` is not set."
    )
    mqtt_tls: bool = Field(False, description="Whether to connect to the MQTT broker with TLS.")
    mqtt_ca_file: Path | None = Field(
        None,
        description="PEM file of the authority that signed the broker's certificate; implies TLS. Default: the "
        "system's authorities.",
    )
    mqtt_protocol: Literal["5", "3.1.1"] = Field("5", description="Version of MQTT.")
    mqtt_client_id: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_.-]{1,100}$")] = Field(
        "imgpipeline",
        description="Name of the session at the MQTT broker, which keeps messages for it. Two processes with the same "
        "name disconnect each other.",
    )
    mqtt_session_expiry_s: int = Field(
        7 * 86_400,
        ge=0,
        le=0xFFFF_FFFE,
        description="How long the MQTT broker keeps messages while no client is connected (MQTT 5).",
    )
    mqtt_max_in_flight: int = Field(
        64, ge=1, le=65_535, description="Maximum number of messages that are received but not yet acknowledged."
    )
    mqtt_events_topic: Annotated[str, StringConstraints(pattern=_TOPIC)] = Field(
        "imgpipeline", description="Start of the MQTT topics on which `publish events --mqtt` publishes."
    )
    mqtt_discovery_topic: Annotated[str, StringConstraints(pattern=_TOPIC)] = Field(
        "homeassistant", description="Start of the MQTT topics on which Home Assistant looks for devices."
    )

    @model_validator(mode="after")
    def _imply_tls(self) -> Self:
        if self.mqtt_ca_file is not None:
            self.__dict__["mqtt_tls"] = True
        return self
