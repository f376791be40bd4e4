"""Alerts reach Home Assistant by MQTT discovery, and none is lost if a process is killed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from imgpipeline.errors import TransientError
from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.publish.alerts import publish_to_home_assistant
from imgpipeline.publish.transactions import Run
from imgpipeline.settings import Settings, load_settings
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.events.test_alert_chain import NOW, event
from imgpipeline_tests.publish.killing import publish_and_die
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.waiting import wait_until

DOCUMENTED = {"name", "unique_id", "state_topic", "event_types", "availability", "qos", "device", "origin"}
"""Fields of an `event` entity that https://www.home-assistant.io/integrations/event.mqtt documents."""


class Subscriber:
    """Sees what Home Assistant would see, with a session that the broker keeps."""

    def __init__(self, broker: Mosquitto, *topics: str) -> None:
        """Subscribe."""
        self.messages: list[paho.MQTTMessage] = []
        self.subscriptions = 0
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="subscriber", clean_session=False)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda *_: self.client.subscribe([(topic, 1) for topic in topics])
        self.client.on_subscribe = self._subscribed
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        self.wait_for(lambda: self.subscriptions > 0)

    def wait_for(self, condition: Any) -> None:
        """Wait for something to arrive."""
        wait_until(condition, limit_s=60, what="the subscriber")

    def payloads(self, topic: str) -> list[Any]:
        """Return the JSON documents below a topic, in their order."""
        return [json.loads(each.payload) for each in self.messages if each.topic.startswith(topic)]

    def numbers(self) -> list[int]:
        """Return the numbers of the alerts."""
        return [document["number"] for document in self.payloads("imgpipeline/events/")]

    def _subscribed(self, *_: object) -> None:
        self.subscriptions += 1


@contextmanager
def subscribed(broker: Mosquitto, *topics: str) -> Iterator[Subscriber]:
    """Subscribe until the context ends."""
    subscriber = Subscriber(broker, *topics)
    try:
        yield subscriber
    finally:
        subscriber.client.disconnect()
        subscriber.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[Mosquitto]:
    """A broker of the test's own: others leave retained messages."""
    with Mosquitto(tmp_path / "mosquitto") as started:
        yield started


@pytest.fixture
def settings(broker: Mosquitto, tmp_path: Path) -> Settings:
    return load_settings(mqtt_host=broker.host, mqtt_port=broker.port, store_url=f"file://{tmp_path}/store")


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def raise_alerts(store: ObjectStore, *numbers: int) -> None:
    chain = AlertChain(store)
    for number in numbers:
        chain.append(event(number), difference_image=None, now=NOW)


def publish(store: ObjectStore, settings: Settings, **more: Any) -> int:
    return publish_to_home_assistant(Run(store, settings, clock=lambda: NOW, **more), settle_s=0)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_each_rule_of_a_source_is_an_entity_that_home_assistant_discovers(store, settings, broker, protocol):
    settings = settings.model_copy(update={"mqtt_protocol": protocol})
    chain = AlertChain(store)
    for number, source in enumerate(("gate", "yard/left + right"), start=1):
        chain.append(replace(event(number), source=source), difference_image=None, now=NOW)
    assert publish(store, settings) == 2
    with subscribed(broker, "homeassistant/#", "imgpipeline/#") as later:
        later.wait_for(lambda: len(later.messages) == 3)
        first, second = sorted(later.payloads("homeassistant/event/"), key=lambda config: config["device"]["name"])
    assert set(first) == DOCUMENTED
    assert (first["name"], first["event_types"], first["qos"]) == ("changed", ["image_change"], 1)
    assert first["state_topic"] == "imgpipeline/events/gate/changed"
    assert first["availability"] == [
        {"topic": "imgpipeline/status", "payload_available": "online", "payload_not_available": "offline"}
    ]
    assert (first["device"]["name"], second["device"]["name"]) == ("gate", "yard/left + right")
    assert first["device"]["identifiers"] != second["device"]["identifiers"]
    assert first["unique_id"] != second["unique_id"]
    assert not {"+", "#"} & set(second["state_topic"])
    assert second["state_topic"].count("/") == 3
    assert {f"homeassistant/event/{config['unique_id']}/config" for config in (first, second)} < {
        message.topic for message in later.messages
    }
    assert [message.payload for message in later.messages if message.topic == "imgpipeline/status"] == [b"offline"]


def test_an_alert_is_an_event_of_its_entity_and_the_publisher_is_online_meanwhile(store, settings, broker):
    raise_alerts(store, 1)
    with subscribed(broker, "#") as home:

        def second_look() -> bool:
            raise_alerts(store, 2)
            return len(home.numbers()) < 2

        assert publish(store, settings, should_continue=second_look) == 2
        home.wait_for(lambda: home.messages[-1].payload == b"offline")
    topics = [message.topic.split("/")[0:2] for message in home.messages]
    assert topics[:3] == [["imgpipeline", "status"], ["homeassistant", "event"], ["imgpipeline", "events"]]
    assert home.messages[0].payload == b"online"
    (config,) = home.payloads("homeassistant/")
    first, second = home.payloads(config["state_topic"])
    assert (first["event_type"], first["event_id"], first["number"]) == ("image_change", event(1).event_id, 1)
    assert first["event_type"] in config["event_types"]
    assert (second["number"], second["reason"], second["image_paths"]) == (2, "it differs", ["2.jpg", "3.jpg"])


@pytest.mark.medium
@pytest.mark.fault(59)
def test_fault_59_an_mqtt_broker_that_is_killed_and_restarted_loses_no_event(store, settings, broker):
    raise_alerts(store, 1, 2)
    with subscribed(broker, "#") as home:

        def meanwhile() -> bool:
            home.wait_for(lambda: home.numbers() == [1, 2])
            broker.kill()
            raise_alerts(store, 1, 2, 3)
            return True

        with pytest.raises(TransientError, match="cannot be reached"):
            publish(store, settings, should_continue=meanwhile)
        with pytest.raises(TransientError, match="cannot be reached"):
            publish(store, settings)
        raise_alerts(store, 4)
        before = home.subscriptions
        broker.start()
        home.wait_for(lambda: home.subscriptions > before)
        assert publish(store, settings) == 2
        home.wait_for(lambda: home.numbers()[-2:] == [3, 4])
    received = [document["event_id"] for document in home.payloads("imgpipeline/events/")]
    assert list(dict.fromkeys(received)) == [event(number).event_id for number in (1, 2, 3, 4)]
    assert len(home.payloads("homeassistant/")) >= 2, "announced again: a broker may forget what it retains"


@pytest.mark.medium
@pytest.mark.fault(58)
def test_fault_58_a_publisher_by_mqtt_killed_before_it_notes_what_was_sent_sends_it_again_with_the_same_ids(
    store, settings, broker
):
    raise_alerts(store, 1)
    publish(store, settings)
    raise_alerts(store, 2, 3)
    with subscribed(broker, "imgpipeline/#") as home:
        publish_and_die(settings, "mqtt sent", "events", "--mqtt")
        home.wait_for(lambda: home.messages[-1].payload == b"offline")  # the broker says so
        assert publish(store, settings) == 2
        home.wait_for(lambda: home.numbers() == [2, 3, 2, 3])
    ids = [document["event_id"] for document in home.payloads("imgpipeline/events/")]
    assert ids[:2] == ids[2:] == [event(2).event_id, event(3).event_id]


def test_the_first_call_skips_old_alerts(store, settings, broker):
    chain = AlertChain(store)
    for number, age in ((1, timedelta(hours=2)), (2, timedelta(minutes=5))):
        chain.append(event(number), difference_image=None, now=NOW - age)
    with subscribed(broker, "#") as home:
        assert publish(store, settings) == 1
        home.wait_for(lambda: home.numbers() == [2])


@pytest.mark.slow
@pytest.mark.medium
def test_a_refused_login_is_an_error_without_the_password(tmp_path, mosquitto):
    with Mosquitto(tmp_path / "closed", users={"alice": "right"}) as broker:
        site = {
            "IMGPIPELINE_STORE_URL": f"file://{tmp_path}/store",
            "MQTT_HOST": broker.host,
            "MQTT_PORT": str(broker.port),
            "IMGPIPELINE_MQTT_USERNAME": "alice",
        }
        refused = run("publish", "events", "--mqtt", env={**site, "IMGPIPELINE_MQTT_PASSWORD": "hunter2"}, cwd=tmp_path)
        assert (refused.status, "refuses the login" in refused.stderr) == (1, True)
        assert "hunter2" not in refused.stderr + refused.stdout
        accepted = run("publish", "events", "--mqtt", env={**site, "IMGPIPELINE_MQTT_PASSWORD": "right"}, cwd=tmp_path)
        assert accepted.stderr == f"0 alerts published to the MQTT broker {broker.host}:{broker.port}.\n"
