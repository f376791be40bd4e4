"""Kafka records of frames and notices, in the form that a publisher is asked for."""

from imgpipeline.contracts.messages import SESSION, FrameMessage, MessageFormat, classic_value
from imgpipeline.contracts.notices import Notice
from imgpipeline.contracts.timezones import find_timezone
from imgpipeline.settings import Settings
from imgpipeline.stream.batches import Record


def record_of(settings: Settings, message: FrameMessage | Notice, form: MessageFormat) -> Record | None:
    """Returns the record that announces a frame or a notice.

    Args:
        settings: Name the topic, and for the classic form the store and the time zone.
        message: What to announce; its source is the record's key.
        form: How frames are announced.

    Returns:
        The record; None for a notice if the topic's consumers know the classic form only.
    """
    topic, key = settings.kafka_topic, message.source.encode()
    if isinstance(message, Notice):
        is_understood = form is MessageFormat.NATIVE or settings.notices_topic != topic
        return Record(settings.notices_topic, key, message.to_value()) if is_understood else None
    if form is MessageFormat.CLASSIC:
        zone = find_timezone(settings.message_timezone)
        headers = ((SESSION, str(message.attributes[SESSION]).encode()),) if SESSION in message.attributes else ()
        return Record(topic, key, classic_value(message, store_url=settings.store_url, zone=zone), headers)
    stamp = None if message.has_own_timestamp else round(message.timestamp.timestamp() * 1000)
    return Record(topic, key, message.to_value(with_time=message.has_own_timestamp), timestamp_ms=stamp)
