"""Alert numbers have neither gaps nor duplicates, and no event has two alerts, despite races and kills."""

import multiprocessing
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGKILL

import pytest

from imgpipeline.contracts.keys import alert_key
from imgpipeline.errors import PermanentError, UsageError
from imgpipeline.events.alerts.chain import AlertChain, alert_numbers, read_alert, read_alerts
from imgpipeline.events.alerts.listing import Acknowledgement, acknowledge, read_acknowledgements
from imgpipeline.events.values import Event
from imgpipeline.faultpoints import PLAN_VARIABLE
from imgpipeline.objectstore import ObjectStore, open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.objectstore.stores import SHARED_KINDS, folder_settings, store_settings

NOW = datetime(2026, 1, 9, 12, tzinfo=UTC)


def event(number: int) -> Event:
    """Return an image change that is named by a number."""
    frames, images = (f"frame-{number}", f"frame-{number + 1}"), (f"{number}.jpg", f"{number + 1}.jpg")
    return Event("changed", "image_change", "gate", NOW, NOW, NOW, None, None, None, 7.5, "it differs", frames, images)


def raise_alerts(store: ObjectStore, numbers: Iterable[int], notify: tuple[str, ...] = ()) -> None:
    """Write an alert for each event, in the order given."""
    chain = AlertChain(store)
    for number in numbers:
        chain.append(event(number), difference_image=None, now=NOW, notify=notify)


def raise_all(settings: Settings, numbers: Iterable[int]) -> None:
    """Do the same in another process, which opens the store itself."""
    raise_alerts(open_store(settings), numbers)


def test_an_event_has_one_alert_even_if_it_is_appended_again(store):
    first = AlertChain(store).append(event(1), difference_image="difference.jpg", now=NOW)
    assert first is not None
    assert AlertChain(store).append(event(1), difference_image="difference.jpg", now=NOW) is None
    assert list(read_alerts(store)) == [first]
    assert first.images == (("before", "1.jpg"), ("after", "2.jpg"), ("difference", "difference.jpg"))


def test_a_writer_that_lost_the_race_for_a_number_takes_the_next(store):
    slow, fast = AlertChain(store), AlertChain(store)
    slow.append(event(1), difference_image=None, now=NOW)
    fast.append(event(2), difference_image=None, now=NOW)
    slow.append(event(3), difference_image=None, now=NOW)
    assert [(alert.number, alert.event) for alert in read_alerts(store)] == [(n, event(n)) for n in (1, 2, 3)]


def test_a_missing_or_damaged_alert_is_named(store):
    with pytest.raises(UsageError, match="no alert 1"):
        read_alert(store, 1)
    raise_alerts(store, [1, 2, 3])
    store.put(alert_key(3), b"{}")
    with pytest.raises(PermanentError, match=r"0000000003.json is damaged"):
        read_alert(store, 3)
    store.delete(alert_key(2))
    with pytest.raises(PermanentError, match="Alert 2 is missing"):
        alert_numbers(store)


def test_acknowledgements_say_who_and_when(store):
    AlertChain(store).append(event(1), difference_image=None, now=NOW)
    given = [Acknowledgement("ann", NOW, "a fox"), Acknowledgement("ben", NOW, "")]
    for each in given:
        acknowledge(store, 1, each)
    assert read_acknowledgements(store, 1) == given
    with pytest.raises(UsageError, match="no alert 2"):
        acknowledge(store, 2, given[0])


@pytest.mark.medium
@pytest.mark.fault(58)
@pytest.mark.parametrize("kind", SHARED_KINDS)
def test_fault_58_two_processes_race_for_numbers(kind, request):
    settings = store_settings(kind, request)
    spawn = multiprocessing.get_context("spawn")
    orders = (list(range(20)), list(range(19, -1, -1)))
    racing = [spawn.Process(target=raise_all, args=(settings, order)) for order in orders]
    for each in racing:
        each.start()
    for each in racing:
        each.join(60)
    assert [each.exitcode for each in racing] == [0, 0]
    alerts = list(read_alerts(open_store(settings)))
    assert [alert.number for alert in alerts] == list(range(1, 21))
    assert {alert.event.event_id for alert in alerts} == {event(n).event_id for n in range(20)}


@pytest.mark.medium
@pytest.mark.fault(58)
@pytest.mark.parametrize("step", ["alert put", "alert put done"])
def test_fault_58_a_killed_writer_leaves_no_hole(step, tmp_path):
    settings = folder_settings(tmp_path)
    script = (
        "from imgpipeline.settings import Settings\n"
        "from imgpipeline_tests.events.test_alert_chain import raise_all\n"
        f"raise_all(Settings(_env_file=None, store_url={settings.store_url!r}), [0, 1, 2, 3])\n"
    )
    plan = {PLAN_VARIABLE: f"{step}:3=kill"}
    done = subprocess.run([sys.executable, "-c", script], env=plan, check=False, cwd=Path.cwd())
    assert done.returncode == -SIGKILL
    raise_all(settings, [0, 1, 2, 3])
    alerts = list(read_alerts(open_store(settings)))
    assert [(alert.number, alert.event) for alert in alerts] == [(n + 1, event(n)) for n in range(4)]
