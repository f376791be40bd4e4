"""The group's offsets of all partitions, asked for at once."""

import pytest

from imgpipeline.contracts.records import Partition
from imgpipeline.settings import Settings
from imgpipeline.stream.embedded import EmbeddedBroker
from imgpipeline.stream.group import ask_group, open_group
from imgpipeline_tests.stream.test_embedded import settings_of


def partitions(settings: Settings, *numbers: int) -> list[Partition]:
    return [Partition(settings.kafka_topic, number) for number in numbers]


def test_a_group_without_commits_has_no_offsets(settings: Settings) -> None:
    assert ask_group(settings, partitions(settings, 0)) == {}


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_what_was_written_is_answered_for_all_partitions(settings: Settings) -> None:
    with open_group(settings) as group:
        first, second, third = partitions(settings, 0, 1, 2)
        assert group.write({first: 7, third: 0})
        assert group.read([first, second, third]) == {first: 7, third: 0}
    assert ask_group(settings, [first, second, third]) == {first: 7, third: 0}


def test_a_broker_of_an_old_protocol_is_asked_too() -> None:
    """The demo's: what it answers to a request for all partitions there are cannot be read."""
    with EmbeddedBroker() as broker:
        settings = settings_of(broker.environment())
        first, second = partitions(settings, 0, 1)
        assert ask_group(settings, [first, second]) == {}
        with open_group(settings) as group:
            assert group.write({second: 5})
        assert ask_group(settings, [first, second]) == {second: 5}
