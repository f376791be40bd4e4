"""`imgpipeline publish` reports what it has published, and with --follow runs until stopped."""

import httpx
import pytest

from imgpipeline.events.configuration import read_rules
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.schema.events import EVENT_TABLES, PLACE_TABLES
from imgpipeline.settings import load_settings
from imgpipeline.sources.metrics import serve_health
from imgpipeline.stream.log import read_log
from imgpipeline_tests.cli.command import interrupt, run
from imgpipeline_tests.daily.builds import build_table
from imgpipeline_tests.ledger.samples import DAY, NOON, append, frames, write_chain
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.medium


@pytest.fixture
def env(kafka: KafkaBroker, folder_site: dict[str, str]) -> dict[str, str]:
    return {**folder_site, "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}


def test_events_that_wait_for_a_build_are_named(env, topic, store_of, tmp_path):
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "crowd"\nkind = "count"\nabove = 0\n')
    site = {**env, "IMGPIPELINE_RULES_FILE": str(tmp_path / "rules.toml")}
    command = ("publish", "events", "--topic", topic)
    store, settings = store_of(site), load_settings()
    chain = write_chain(store, frames(0, 3))
    rebuild_day(store, DAY, now=NOON)
    for table in (*EVENT_TABLES, *PLACE_TABLES):
        build_table(store, DAY, table, rules=read_rules(settings, store), settings=settings, now=NOON)
    ended = run(*command, env=site, cwd=tmp_path)
    assert ended.stderr == f"0 events published on the topic {topic}.\n"
    append(chain, frames(3, 5))
    rebuild_day(store, DAY, now=NOON)
    ended = run(*command, env=site, cwd=tmp_path)
    assert f"{DAY} and later days wait" in ended.stderr
    assert f"imgpipeline build --day {DAY}" in ended.stderr


def test_detections_are_published_once_and_followed_until_ctrl_c(env, topic, store_of, tmp_path):
    chain = write_chain(store_of(env), frames(0, 3))
    command = ("publish", "detections", "--topic", topic)
    first = run(*command, env=env, cwd=tmp_path)
    assert (first.status, first.stderr) == (0, f"3 frames published on the topic {topic}.\n")
    assert run(*command, "--json", env=env, cwd=tmp_path).json() == {"topic": topic, "published": 0}

    settings = load_settings(kafka_topics=(topic,))
    end = read_log(settings)[0].log_end
    append(chain, frames(3, 5))

    def is_published() -> None:
        wait_until(lambda: read_log(settings)[0].log_end >= end + 3, limit_s=60, what="two frames and their marker")

    followed = interrupt(*command, "--follow", env=env, cwd=tmp_path, when=is_published)
    assert (followed.status, followed.stderr) == (130, f"2 frames published on the topic {topic}.\n")


def test_a_health_page_answers_while_a_command_runs(env, store_of, tmp_path):
    write_chain(store_of(env), frames(0, 3))
    port, file = free_port(), tmp_path / "detections.csv"
    answers: list[httpx.Response] = []

    def is_asked() -> None:
        wait_until(file.exists, limit_s=60, what="the file")
        url = f"http://{LOOPBACK}:{port}"
        answers.extend([httpx.get(f"{url}/"), httpx.get(f"{url}/other"), httpx.head(f"{url}/")])

    command = ("--health-port", str(port), "publish", "detections", "--csv-file", str(file), "--follow")
    (tmp_path / ".env").write_text("SERVICE_NAME=car_detector\n")
    assert interrupt(*command, env=env, cwd=tmp_path, when=is_asked).status == 130
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    assert (answers[0].text, answers[2].text) == ("car_detector is running!", "")


def test_a_health_page_without_a_name_is_that_of_the_command(env, store_of, tmp_path):
    write_chain(store_of(env), frames(0, 3))
    with serve_health(0, LOOPBACK, "publish") as port:
        assert httpx.get(f"http://{LOOPBACK}:{port}/").text == "publish is running!"
        taken = run("--health-port", str(port), "status", env=env, cwd=tmp_path)
    assert (taken.status, "cannot be opened" in taken.stderr) == (1, True)
