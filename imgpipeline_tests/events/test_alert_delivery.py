"""Alerts reach every target at least once, despite outages and kills; a storm of alerts is one message."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from signal import SIGKILL

import pytest
from pydantic import SecretStr

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.alerts.delivery import (
    MessagePace,
    deliver,
    delivering,
    read_attempts,
    read_targets,
    undelivered_numbers,
)
from imgpipeline.faultpoints import PLAN_VARIABLE
from imgpipeline.settings import Settings
from imgpipeline_tests.events.test_alert_chain import NOW, event, raise_alerts
from imgpipeline_tests.objectstore.noting import NotingStore
from imgpipeline_tests.objectstore.stores import folder_settings
from imgpipeline_tests.servers.notified import Received, mail_server, web_server
from imgpipeline_tests.servers.ports import free_port


def sending_to(tmp_path: Path, *targets: str, **changes: object) -> Settings:
    return folder_settings(tmp_path).model_copy(update={"alert_targets": SecretStr(" ".join(targets)), **changes})


@pytest.mark.medium
def test_an_alert_is_sent_once_with_its_key(tmp_path, store):
    raise_alerts(store, [1])
    received: Received = []
    with web_server(received) as port:
        settings = sending_to(tmp_path, f"json://127.0.0.1:{port}")
        assert deliver(store, settings, now=NOW).delivered == 1
        assert deliver(store, settings, now=NOW, is_retry=True).delivered == 0
    (message,) = received
    assert message["title"] == "Alert 1: changed at gate"
    assert event(1).event_id in message["message"]
    assert undelivered_numbers(store) == []


@pytest.mark.medium
@pytest.mark.parametrize(("count", "said"), [(1, "1 alert."), (2, "2 alerts.")])
def test_a_watch_logs_how_many_alerts_were_not_delivered(tmp_path, store, caplog, count, said):
    raise_alerts(store, range(1, count + 1))
    with delivering(store, sending_to(tmp_path, f"json://127.0.0.1:{free_port()}"), lambda: NOW):
        pass
    assert f"Not delivered: {said}" in caplog.text


@pytest.mark.medium
@pytest.mark.fault(59)
def test_fault_59_a_target_that_is_away_is_tried_again_and_the_other_not(tmp_path, store):
    raise_alerts(store, [1])
    mails: list[str] = []
    mail = mail_server(mails.append, free_port())
    mail.start()
    port = free_port()  # while the mail server has its own
    try:
        settings = sending_to(
            tmp_path,
            f"json://127.0.0.1:{port}",
            f"mailto://127.0.0.1:{mail.port}?from=a@example.com&to=b@example.com&mode=insecure",
        )
        assert deliver(store, settings, now=NOW).failed == 1
        assert deliver(store, settings, now=NOW + timedelta(seconds=9)).waiting == 1
        received: Received = []
        with web_server(received, port):
            assert deliver(store, settings, now=NOW + timedelta(seconds=10)).delivered == 1
    finally:
        mail.stop()
    assert (len(received), len(mails)) == (1, 1)
    first, second = read_attempts(store, 1)
    assert (first.accepted, first.failed) == (second.failed + first.accepted, second.accepted)
    assert [name.partition("-")[0] for name in first.failed + first.accepted] == ["json", "mailto"]


@pytest.mark.medium
def test_a_pass_reads_no_attempts_of_alerts_that_have_to_wait(tmp_path, store):
    raise_alerts(store, range(1, 6))
    settings = sending_to(tmp_path, f"json://127.0.0.1:{free_port()}")
    noting, pace = NotingStore(store), MessagePace(10)
    reads = []
    for second in (0, 2, 4, 10):
        noting.fetched.clear()
        done = deliver(noting, settings, now=NOW + timedelta(seconds=second), pace=pace)
        reads.append((done.failed, done.waiting, sum(key.startswith("alerts_attempts") for key in noting.fetched)))
    assert reads == [(5, 0, 0), (0, 5, 5), (0, 5, 0), (5, 0, 5)]


@pytest.mark.medium
@pytest.mark.fault(59)
def test_fault_59_a_storm_is_one_message(tmp_path, store):
    raise_alerts(store, range(1, 1001))
    received: Received = []
    with web_server(received) as port:
        done = deliver(store, sending_to(tmp_path, f"json://127.0.0.1:{port}"), now=NOW)
    assert (done.delivered, undelivered_numbers(store)) == (1000, [])
    (message,) = received
    assert message["title"] == "1,000 alerts: 1 to 1000"
    assert "and 990 more" in message["message"]


@pytest.mark.medium
@pytest.mark.fault(58)
def test_fault_58_a_sender_killed_before_it_records_sends_again_with_the_same_key(tmp_path, store):
    raise_alerts(store, range(1, 3))
    received: Received = []
    with web_server(received) as port:
        settings = sending_to(tmp_path, f"json://127.0.0.1:{port}")
        variables = {
            "IMGPIPELINE_STORE_URL": settings.store_url,
            "IMGPIPELINE_ALERT_TARGETS": f"json://127.0.0.1:{port}",
            PLAN_VARIABLE: "alert sent:2=kill",
        }
        command = [sys.executable, "-m", "imgpipeline.cli", "alerts", "deliver"]
        assert subprocess.run(command, env=variables, check=False).returncode == -SIGKILL
        assert undelivered_numbers(store) == [2]
        assert deliver(store, settings, now=NOW).delivered == 1
    titles = [message["title"].partition(":")[0] for message in received]
    assert titles == ["Alert 1", "Alert 2", "Alert 2"]
    assert received[1] == received[2]


@pytest.mark.medium
def test_a_rule_notifies_its_subscribers_and_the_other_targets_hear_nothing(tmp_path, store):
    for number, notify in enumerate([(), ("guards",), ("office", "guards")], start=1):
        raise_alerts(store, [number], notify)
    at_guards, at_office, at_archive = ([], [], [])  # type: tuple[Received, Received, Received]
    with web_server(at_guards) as guards, web_server(at_office) as office, web_server(at_archive) as archive:
        urls = [f"json://127.0.0.1:{port}" for port in (guards, office, archive)]
        given = sending_to(tmp_path, f"guards={urls[0]}", f"office,boss={urls[1]}", urls[2])
        assert deliver(store, given, now=NOW).delivered == 3
    heard = [[message["title"].partition(":")[0] for message in at] for at in (at_guards, at_office, at_archive)]
    assert heard == [["Alert 1", "Alert 2", "Alert 3"], ["Alert 1", "Alert 3"], ["Alert 1"]]
    assert [len(read_attempts(store, number)[0].accepted) for number in (1, 2, 3)] == [3, 1, 2]


@pytest.mark.medium
def test_a_summary_has_only_the_alerts_that_a_subscriber_gets(tmp_path, store):
    raise_alerts(store, range(1, 13), ("guards",))
    raise_alerts(store, range(13, 21))
    at_guards, at_archive = ([], [])  # type: tuple[Received, Received]
    with web_server(at_guards) as guards, web_server(at_archive) as archive:
        given = sending_to(tmp_path, f"guards=json://127.0.0.1:{guards}", f"json://127.0.0.1:{archive}")
        assert deliver(store, given, now=NOW).delivered == 20
    assert [message["title"] for message in at_guards + at_archive] == ["20 alerts: 1 to 20", "8 alerts: 13 to 20"]


@pytest.mark.medium
def test_an_alert_waits_for_a_subscriber_that_no_target_has(tmp_path, store):
    raise_alerts(store, [1], ("guards",))
    received: Received = []
    with web_server(received) as port:
        url = f"json://127.0.0.1:{port}"
        assert deliver(store, sending_to(tmp_path, url), now=NOW).failed == 1
        assert (received, [attempt.failed for attempt in read_attempts(store, 1)]) == ([], [("guards",)])
        assert deliver(store, sending_to(tmp_path, f"guards={url}"), now=NOW, is_retry=True).delivered == 1
    assert len(received) == 1


def test_a_wrong_target_is_named_without_its_secret(tmp_path):
    settings = sending_to(tmp_path, "json://localhost", "nonsense://user:hunter2@host")
    with pytest.raises(ConfigurationError, match="target 2 of 2") as refused:
        read_targets(settings)
    assert "hunter2" not in str(refused.value)


def test_without_targets_nothing_is_sent(store):
    raise_alerts(store, [1])
    assert deliver(store, Settings(), now=NOW).delivered == 0
    assert undelivered_numbers(store) == [1]
