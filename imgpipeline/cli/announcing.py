"""The options of commands that store images and announce them."""

from typing import Annotated

import typer

from imgpipeline.contracts.messages import MessageFormat
from imgpipeline.contracts.templates import ImageKeyTemplate
from imgpipeline.errors import UsageError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.kafka import NOTICES_APART


def _checked(text: str | None) -> str | None:
    try:
        return None if text is None else ImageKeyTemplate(text).text
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


KeyTemplateOption = Annotated[
    str | None,
    typer.Option(
        "--key-template",
        metavar="TEMPLATE",
        callback=_checked,
        help="Where images are stored, such as images/{name}, with the fields source, day, time, digest, name and "
        "number. Default: IMGPIPELINE_IMAGE_KEY_TEMPLATE.",
    ),
]
MessageFormatOption = Annotated[
    MessageFormat,
    typer.Option(
        "--message-format",
        help="native: all fields. classic: only image_path (s3://…) and upload_timestamp.",
    ),
]
TopicOption = Annotated[
    str | None,
    typer.Option("--topic", metavar="NAME", help="Where to announce. Default: the first of IMGPIPELINE_KAFKA_TOPIC."),
]


def one_of_the_topics(settings: Settings, topic: str) -> str:
    """Returns a topic that was given, if it is one of the settings.

    Raises:
        UsageError: It is not.
    """
    if topic not in settings.kafka_topics:
        raise UsageError(
            f"{topic} is not one of the topics that are followed: {', '.join(settings.kafka_topics)}.",
            next_step="name one of them, or add it to IMGPIPELINE_KAFKA_TOPIC",
        )
    return topic


def announcing_settings(topic: str | None, key_template: str | None) -> dict[str, object]:
    """Returns what overrides the settings: the options that were given."""
    topics = None if topic is None else with_notices_topic(load_settings(), topic)
    given = {"kafka_topics": topics, "image_key_template": key_template}
    return {name: value for name, value in given.items() if value is not None}


def with_notices_topic(settings: Settings, topic: str) -> tuple[str, ...]:
    """Returns a topic to announce on, and the one of its notices if that is followed."""
    apart = f"{topic}{NOTICES_APART}"
    return (topic, apart) if apart in settings.kafka_topics else (topic,)
