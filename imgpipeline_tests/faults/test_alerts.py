"""Any process may be killed while it alerts: numbers have no gaps or duplicates, and each target gets each alert."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.times import utc_now
from imgpipeline.events.alerts.chain import alert_numbers, read_alerts
from imgpipeline.events.alerts.delivery import undelivered_numbers
from imgpipeline.events.configuration import load_rules
from imgpipeline.events.reading import read_events
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENT_TABLES
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.daily.builds import build_table
from imgpipeline_tests.detect.conftest import START, jpeg
from imgpipeline_tests.events.samples import CHANGE
from imgpipeline_tests.faults.child_runs import environment_of, happened, variables_of
from imgpipeline_tests.servers.announcing import Announcer
from imgpipeline_tests.servers.notified import Notified
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.slow

OLD_ENOUGH_S = 1e9
_KEY = re.compile(r"idempotency key: ([0-9a-f]{32})")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Notified, Notified]]:
    """A webhook and a mail server, not started yet."""
    both = Notified("web", tmp_path), Notified("mail", tmp_path)
    yield both
    for server in both:
        server.kill()


def announce(settings: Settings, numbers: range) -> None:
    """Announce frames of a camera, one a second, each of which differs from the one before."""
    store = open_store(settings)
    keys = [f"images/camera/{number}.jpg" for number in range(2)]
    for number, key in enumerate(keys):
        store.put(key, jpeg(number=20 + 10 * number))
    with Announcer(settings) as announcer:
        for number in numbers:
            at = START + timedelta(seconds=number)
            announcer.announce(FrameMessage("camera", keys[number % 2], at, frame_number=number))


def check(settings: Settings, servers: tuple[Notified, Notified], rules: Path, frames: int) -> None:
    """Compare the alerts with the events of the day's tables, and with what the servers have accepted."""
    store, day = open_store(settings), START.date()
    rebuild_day(store, day, now=utc_now())
    for table in EVENT_TABLES:
        build_table(store, day, table, rules=load_rules(rules), settings=settings, now=utc_now())
    alerts = [(alert.number, alert.event.event_id) for alert in read_alerts(store)]
    wanted = {event.event_id for event in read_events(store, settings, day)}
    assert [number for number, _ in alerts] == list(range(1, frames))
    assert {event_id for _, event_id in alerts} == wanted
    for server in servers:
        messages = set(server.messages)  # the same alert may come twice, as the same message
        assert len(messages) == frames - 1
        assert {key for message in messages for key in _KEY.findall(message)} == wanted


@contextmanager
def watching(settings: Settings, plan: str = "") -> Iterator["subprocess.Popen[bytes]"]:
    """Run `imgpipeline alerts watch`; it does not outlive the block."""
    command = [sys.executable, "-m", "imgpipeline.cli", "alerts", "watch"]
    with subprocess.Popen(command, env={**environment_of(settings), **variables_of(plan)}) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.fault(58)
@pytest.mark.timeout(300)
def test_fault_58_a_watch_and_its_targets_are_killed_in_turn_and_every_alert_arrives(lane, servers, tmp_path):
    web, mail = servers
    rules = tmp_path / "rules.toml"
    rules.write_text(CHANGE)
    site = lane.with_settings(
        rules_file=str(rules),
        alert_targets=SecretStr(f"{web.target} {mail.target}"),
        alert_max_age_s=OLD_ENOUGH_S,
        alert_messages_per_minute=1000,
    )
    web.start()
    mail.start()
    announce(site.settings, range(6))
    site.follow()
    with watching(site.settings, "alert put:3=kill") as process:
        assert process.wait(60) == -signal.SIGKILL
    assert alert_numbers(site.store) == [1, 2]
    web.kill()
    mail.kill()
    with watching(site.settings, "alert put done:2=kill") as process:
        assert process.wait(60) == -signal.SIGKILL
    assert alert_numbers(site.store) == [1, 2, 3, 4]
    web.start()
    with watching(site.settings, "alert sent:2=kill") as process:
        assert process.wait(90) == -signal.SIGKILL
    announce(site.settings, range(6, 12))
    site.follow()
    mail.start()
    with watching(site.settings) as process:
        wait_until(lambda: len(alert_numbers(site.store)) == 11, limit_s=60, what="the alerts")
        wait_until(lambda: not undelivered_numbers(site.store), limit_s=120, what="the deliveries", interval_s=0.5)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    check(site.settings, servers, rules, frames=12)


@pytest.mark.fault(58)
@pytest.mark.timeout(900)
def test_fault_58_the_daemon_is_killed_while_it_alerts_and_the_next_one_goes_on(site, servers):
    """With it its code server and the run: nobody is left to tell Dagster of it."""
    web, mail = servers
    rules = site.home / "rules.toml"
    rules.write_text(CHANGE)
    changes = {
        "rules_file": str(rules),
        "alert_targets": f"{web.target} {mail.target}",
        "alert_max_age_s": str(OLD_ENOUGH_S),
        "alert_messages_per_minute": "1000",
    }
    site.variables |= {f"IMGPIPELINE_{name.upper()}": value for name, value in changes.items()}
    settings = site.settings.model_copy(update={"alert_max_age_s": OLD_ENOUGH_S})
    store = open_store(settings)
    mail.start()
    announce(settings, range(8))
    fault = "alert put:4=stop"
    site.start_daemon(variables=variables_of(fault, site.home))
    wait_until(lambda: happened(site.home, fault), limit_s=240, what=fault, interval_s=0.1)
    (run,) = site.runs(job="watch_events", live=True)
    site.daemons[0].kill_group()
    mail.kill()
    assert alert_numbers(store) == [1, 2, 3]
    announce(settings, range(8, 12))
    for server in servers:
        server.start()
    site.start_daemon()
    wait_until(lambda: len(alert_numbers(store)) == 11, limit_s=240, what="the alerts", interval_s=0.5)
    wait_until(lambda: not undelivered_numbers(store), limit_s=240, what="the deliveries", interval_s=0.5)
    site.wait_for_runs_to_end(limit_s=240)
    check(settings, servers, rules, frames=12)
    statuses = {record.dagster_run.run_id: record.dagster_run.status.value for record in site.runs(job="watch_events")}
    assert statuses.pop(run.dagster_run.run_id) == "FAILURE"
    assert set(statuses.values()) == {"SUCCESS"}
