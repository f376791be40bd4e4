"""`imgpipeline alerts`, on a store in a folder."""

import json
from pathlib import Path

import pytest

from imgpipeline.lake.query.lake import Lake
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.events.samples import CHANGE, rotated, stored_frames
from imgpipeline_tests.events.test_alert_delivery import Received, web_server
from imgpipeline_tests.ledger.samples import write_chain


@pytest.fixture
def site(folder_site: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A store with ten images, two of which differ from their predecessor, and the rule that finds them."""
    store = open_store(Settings(_env_file=None, store_url=folder_site["IMGPIPELINE_STORE_URL"]))  # type: ignore[call-arg]  # pydantic-settings' own argument
    write_chain(store, stored_frames(store, rotated()))
    path = tmp_path / "rules.toml"
    path.write_text(CHANGE)
    # A hundred years: the frames of the samples have a fixed day.
    return {**folder_site, "IMGPIPELINE_RULES_FILE": str(path), "IMGPIPELINE_ALERT_MAX_AGE_S": "3e9"}


@pytest.mark.medium
def test_an_alert_shows_image_and_previous_and_difference_under_a_durable_number(site: dict[str, str], tmp_path: Path):
    assert "There are no alerts." in run("alerts", "list", env=site, cwd=tmp_path).stderr
    for _ in range(2):  # the second run finds nothing new, and does not number from 1 again
        ended = run("alerts", "watch", "--seconds", "1", env=site, cwd=tmp_path)
        assert ended.status == 0, ended.stderr
        assert ended.stderr.startswith("Watching for events of 1 rule. Ctrl-C stops.\n")
    listed = json.loads(run("alerts", "list", "--json", env=site, cwd=tmp_path).stdout)
    assert [alert["number"] for alert in listed] == [2, 1]
    ended = run("alerts", "show", "2", "--out", "shown", env=site, cwd=tmp_path)
    assert (ended.status, "images/cam-1/00006.jpg" in ended.stdout) == (0, True)
    before, after, difference = sorted((tmp_path / "shown").iterdir())
    assert [file.stem.rpartition("-")[2] for file in (before, after, difference)] == ["before", "after", "difference"]
    assert (before.read_bytes(), after.read_bytes()) == (rotated()[5], rotated()[6])
    assert difference.read_bytes() not in (before.read_bytes(), after.read_bytes())
    ended = run("alerts", "show", "3", env=site, cwd=tmp_path)
    assert (ended.status, "There is no alert 3." in ended.stderr) == (2, True)


@pytest.mark.medium
def test_a_rule_names_who_is_notified(site: dict[str, str], tmp_path: Path):
    (tmp_path / "rules.toml").write_text(CHANGE + 'notify = ["guards"]\n')
    at_guards, at_others = ([], [])  # type: tuple[Received, Received]
    with web_server(at_guards) as guards, web_server(at_others) as others:
        targets = f"json://127.0.0.1:{others} guards=json://127.0.0.1:{guards}"
        given = {**site, "IMGPIPELINE_ALERT_TARGETS": targets}
        assert run("alerts", "watch", "--seconds", "1", env=given, cwd=tmp_path).status == 0
    assert (len(at_guards), at_others) == (2, [])
    shown = run("alerts", "show", "1", env=site, cwd=tmp_path).stdout
    assert "guards" in shown
    unknown = {**site, "IMGPIPELINE_ALERT_TARGETS": "json://127.0.0.1:1"}
    refused = run("alerts", "watch", env=unknown, cwd=tmp_path)
    assert (refused.status, "'changed' notifies 'guards'" in refused.stderr) == (1, True)


@pytest.mark.medium
def test_an_alert_records_who_was_notified_and_who_acknowledged_it(site: dict[str, str], tmp_path: Path):
    received: Received = []
    with web_server(received) as port:
        given = {**site, "IMGPIPELINE_ALERT_TARGETS": f"json://127.0.0.1:{port}"}
        assert run("alerts", "test", env=given, cwd=tmp_path).status == 0
        assert run("alerts", "watch", "--seconds", "1", env=given, cwd=tmp_path).status == 0
    assert [message["title"] for message in received] == [
        "imgpipeline: test",
        "Alert 1: changed at cam-1",
        "Alert 2: changed at cam-1",
    ]
    assert run("alerts", "deliver", "--retry", env=given, cwd=tmp_path).status == 0
    assert run("alerts", "acknowledge", "1", "--note", "a fox", "--by", "ann", env=site, cwd=tmp_path).status == 0
    shown = json.loads(run("alerts", "show", "1", "--json", env=site, cwd=tmp_path).stdout)
    assert (shown["delivered"], shown["acknowledged"]) == ("yes", "ann")
    assert [len(attempt["accepted"]) for attempt in shown["attempts"]] == [1]
    assert [given["note"] for given in shown["acknowledgements"]] == ["a fox"]
    with Lake.open(site["IMGPIPELINE_STORE_URL"]) as lake:
        alerts = lake.alerts()
        assert list(alerts["event_id"]) == [json.loads(line)["event_id"] for line in _shown(site, tmp_path, "2", "1")]
        assert alerts["is_delivered"].all()
        assert [list(names) for names in alerts["acknowledged_by"]] == [[], ["ann"]]
        assert len(lake.alerts(limit=1)) == 1


def _shown(site: dict[str, str], folder: Path, *numbers: str) -> list[str]:
    return [run("alerts", "show", number, "--json", env=site, cwd=folder).stdout for number in numbers]
