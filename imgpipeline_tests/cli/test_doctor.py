"""`imgpipeline doctor`, `health` and `settings`: what works, what does not, and what to do about it."""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from imgpipeline.cli import doctor
from imgpipeline.cli.doctor import run_checks
from imgpipeline.contracts.times import utc_now
from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings
from imgpipeline.sources.board import Board
from imgpipeline.sources.metrics import StatusPage, serve_metrics, serve_pages
from imgpipeline.sources.protocol import SourceKind, StatusChange
from imgpipeline_tests.cli.command import Ended, run
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.ports import free_port

CANARY = "canary-5f2c"
NAMES = ["settings", "Kafka", "topic", "detection", "object store", "model", "DuckDB", "rules", "alert targets",
         "sinks"]  # fmt: skip
NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
RULES = """
[[rule]]
name = "crowd"
kind = "count"
labels = ["person"]
above = 4
notify = ["guards"]
"""


def statuses(ended: Ended) -> dict[str, str]:
    return {check["name"]: check["status"] for check in ended.json()["checks"]}


def said(ended: Ended, name: str) -> str:
    check = next(check for check in ended.json()["checks"] if check["name"] == name)
    return f"{check['message']} {check['next_step']}"


def test_the_doctor_says_when_everything_works(site, tmp_path):
    (tmp_path / "rules.toml").write_text(RULES)
    env = {
        **site,
        "IMGPIPELINE_RULES_FILE": "rules.toml",
        "IMGPIPELINE_ALERT_TARGETS": f"guards=json://{CANARY}",
    }
    ended = run("doctor", "--json", env=env, cwd=tmp_path)
    assert statuses(ended) == dict.fromkeys(NAMES, "ok"), ended.stdout
    assert (ended.status, ended.json()["ok"]) == (0, True)
    assert "1 partition," in said(ended, "topic")
    assert said(ended, "rules").startswith("1 rule; ")
    assert said(ended, "alert targets").startswith("1 target; ")
    table = run("doctor", env=env, cwd=tmp_path)
    assert table.status == 0
    assert all(name in table.stdout for name in NAMES)
    assert "Everything works." in table.stdout
    assert CANARY not in ended.stdout + ended.stderr + table.stdout + table.stderr


@pytest.mark.slow
def test_with_nothing_running_every_failure_names_its_setting(tmp_path):
    env = {
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "IMGPIPELINE_STORE_URL": "s3://bucket/site",
        "IMGPIPELINE_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "IMGPIPELINE_MODEL": "yolox-nano",
        "IMGPIPELINE_MODEL_DIR": str(tmp_path / "models"),
    }
    ended = run("doctor", "--json", env=env, cwd=tmp_path)
    assert ended.status == 1
    assert statuses(ended) == {
        "settings": "ok",
        "Kafka": "failed", "topic": "not checked", "detection": "not checked", "object store": "failed",
        "model": "failed", "DuckDB": "ok", "rules": "ok", "alert targets": "ok", "sinks": "ok",
    }  # fmt: skip
    assert "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS" in said(ended, "Kafka")
    assert "IMGPIPELINE_S3_ENDPOINT" in said(ended, "object store")
    assert "imgpipeline models pull yolox-nano" in said(ended, "model")
    assert ended.took_s < 90
    assert CANARY not in ended.stdout + ended.stderr


def test_a_wrong_s3_secret_and_a_damaged_model_are_named(site, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    env = {
        **site,
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "IMGPIPELINE_MODEL": str(tmp_path / "broken.onnx"),
        "IMGPIPELINE_MODEL_DECODER": "yolox",
    }
    ended = run("doctor", "--json", env=env, cwd=tmp_path)
    assert statuses(ended)["object store"] == statuses(ended)["model"] == "failed"
    assert "AWS_SECRET_ACCESS_KEY" in said(ended, "object store")
    assert "broken.onnx" in said(ended, "model")
    assert CANARY not in ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rules", "targets", "check", "problem"),
    [
        (None, "", "rules", "rules.toml"),
        ("[[rule]]\nname = 1\n", "", "rules", "rules.toml"),
        (RULES, f"nothing://{CANARY}", "alert targets", "does not support the URL of target 1 of 1"),
        (RULES, f"json://{CANARY}", "alert targets", "notifies 'guards', but no target"),
    ],
    ids=["missing", "invalid", "impossible target", "unknown name"],
)
def test_wrong_rules_and_alert_targets_are_named(rules, targets, check, problem, folder_site, tmp_path):
    if rules:
        (tmp_path / "rules.toml").write_text(rules)
    env = {**folder_site, "IMGPIPELINE_RULES_FILE": "rules.toml", "IMGPIPELINE_ALERT_TARGETS": targets}
    ended = run("doctor", "--json", env=env, cwd=tmp_path)
    assert (ended.status, statuses(ended)[check]) == (1, "failed")
    assert problem in said(ended, check)
    assert CANARY not in ended.stdout + ended.stderr


def test_a_wrong_setting_is_a_failed_check_too(tmp_path):
    ended = run("doctor", "--json", env={"IMGPIPELINE_STORE_URL": "ftp://nowhere"}, cwd=tmp_path)
    assert ended.status == 1
    assert statuses(ended) == {"settings": "failed"}
    assert "IMGPIPELINE_STORE_URL" in said(ended, "settings")


def test_a_misspelt_setting_is_a_warning_that_names_the_nearest_one(site, tmp_path):
    ended = run("doctor", "--json", env={**site, "IMGPIPELINE_KAFKA_TOPC": CANARY}, cwd=tmp_path)
    assert (ended.status, statuses(ended)["settings"]) == (0, "warning")
    assert "Did you mean IMGPIPELINE_KAFKA_TOPIC?" in said(ended, "settings")
    assert CANARY not in ended.stdout + ended.stderr
    table = run("doctor", env={**site, "IMGPIPELINE_KAFKA_TOPC": CANARY}, cwd=tmp_path)
    assert "settings: correct or remove them" in table.stdout
    assert "Everything works." not in table.stdout


def test_settings_that_do_not_suit_the_size_of_the_site_are_a_warning(site, kafka, tmp_path):
    kafka.create_topic(topic := f"large-{tmp_path.name}", partitions=101)
    env = {**site, "IMGPIPELINE_KAFKA_TOPIC": topic, "IMGPIPELINE_LANES": "51"}
    ended = run("doctor", "--json", env=env, cwd=tmp_path)
    assert (ended.status, statuses(ended)["topic"]) == (0, "warning")
    assert "IMGPIPELINE_MAX_RUN_S=21600" in said(ended, "topic")
    assert "IMGPIPELINE_COMMIT_INTERVAL_S=10" in said(ended, "topic")
    followed = {**env, "IMGPIPELINE_MAX_RUN_S": "21600", "IMGPIPELINE_COMMIT_INTERVAL_S": "10"}
    assert statuses(run("doctor", "--json", env=followed, cwd=tmp_path))["topic"] == "ok"
    assert run("health", env=env, cwd=tmp_path).status == 0


@pytest.mark.parametrize(("wrong_s", "status"), [(0, "ok"), (8, "ok"), (120, "warning"), (-120, "warning")])
def test_a_clock_that_differs_from_that_of_the_store_is_a_warning(bucket, wrong_s, status):
    settings = s3_settings(bucket)

    def clock() -> datetime:
        return utc_now() + timedelta(seconds=wrong_s)

    [found] = run_checks(settings, {("object store",): partial(doctor.check_object_store, clock=clock)})
    assert found.status == status
    if wrong_s == 120:
        assert re.search(r"clock is 1(19|20|21) s ahead of the store's", found.message)
        assert "NTP" in (found.next_step or "")
    if wrong_s == -120:
        assert re.search(r"clock is 1(19|20|21) s behind the store's", found.message)


@pytest.mark.slow
def test_a_site_whose_servers_answer_is_healthy(site, tmp_path):
    ended = run("health", "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()) == (0, {"healthy": True, "problems": {}})
    away = {**site, "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    ended = run("health", "--json", env=away, cwd=tmp_path)
    assert (ended.status, "Kafka" in ended.json()["problems"]) == (1, True)


def test_a_source_of_the_supervisor_that_is_offline_is_named(site, tmp_path):
    board = Board()
    board.watch("gate", SourceKind.LIVE).captured(StatusChange(online=False, reason="timed out", at=NOON))
    with serve_metrics(board, 0) as port:
        ended = run("health", "--supervisor", str(port), "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()["problems"]) == (1, {"source gate": "timed out"})


def test_a_supervisor_that_does_not_answer_or_is_another_program_is_a_problem(site, tmp_path):
    port = free_port()
    ended = run("health", "--supervisor", str(port), env=site, cwd=tmp_path)
    assert (ended.status, f"no answer on port {port}" in ended.stderr) == (1, True)
    with serve_pages(lambda _path: StatusPage(b"<html>"), 0, "127.0.0.1") as port:
        ended = run("health", "--supervisor", str(port), "--json", env=site, cwd=tmp_path)
    assert ended.status == 1
    assert ended.json()["problems"] == {"supervisor": f"no supervisor answers on port {port}"}


def test_a_camera_with_an_ipv6_address_is_named_in_the_table(site, tmp_path):
    ended = run("doctor", "--rtsp", "rtsp://[fd00::1]:554/stream1", env=site, cwd=tmp_path)
    assert ended.status == 1
    assert any("│ rtsp://[fd00::1]:554/stream1 │" in line for line in ended.stdout.splitlines())


SETTINGS = Settings(_env_file=None)


def good(_: Settings) -> Iterator[tuple[str, str]]:
    yield "good", "found"


def half(_: Settings) -> Iterator[tuple[str, str]]:
    yield "first", "found"
    raise ConfigurationError("wrong", next_step="mend it")


def surprising(_: Settings) -> Iterator[tuple[str, str]]:
    yield from ()
    raise ZeroDivisionError


def silent(_: Settings) -> Iterator[tuple[str, str]]:
    threading.Event().wait()
    yield "object store", "never"


@pytest.mark.medium
def test_every_check_is_reported_in_order_whatever_the_others_do(monkeypatch):
    monkeypatch.setattr(doctor, "LIMIT_S", 0.5)
    chosen = {
        ("object store", "behind it"): silent,
        ("first", "second", "third"): half,
        ("surprising",): surprising,
        ("good",): good,
    }
    results = run_checks(SETTINGS, chosen)
    assert [(result.name, result.status) for result in results] == [
        ("object store", "failed"),
        ("behind it", "not checked"),
        ("first", "ok"),
        ("second", "failed"),
        ("third", "not checked"),
        ("surprising", "failed"),
        ("good", "ok"),
    ]
    assert results[0].next_step == "check IMGPIPELINE_STORE_URL and IMGPIPELINE_S3_ENDPOINT"
    assert (results[3].message, results[3].next_step) == ("wrong", "mend it")
    assert results[4].message == "needs second"
    assert "ZeroDivisionError" in results[5].message


def test_current_values_are_shown_and_secrets_only_as_set(tmp_path):
    (tmp_path / ".env").write_text("IMGPIPELINE_KAFKA_TOPIC=from-file\nKAFKA_PASSWORD=canary-1\n")
    env = {"AWS_SECRET_ACCESS_KEY": "canary-2", "IMGPIPELINE_LANES": "3"}
    ended = run("settings", "--json", env=env, cwd=tmp_path)
    values = ended.json()
    assert values["IMGPIPELINE_KAFKA_TOPIC"] == "from-file"
    assert values["IMGPIPELINE_LANES"] == 3
    assert {values[f"IMGPIPELINE_{name}"] for name in ("KAFKA_PASSWORD", "S3_SECRET_ACCESS_KEY")} == {"(set)"}
    assert values["IMGPIPELINE_S3_SESSION_TOKEN"] is None
    table = run("settings", env=env, cwd=tmp_path)
    assert "from-file" in table.stdout
    assert "canary" not in ended.stdout + ended.stderr + table.stdout + table.stderr


@pytest.mark.slow
def test_a_classic_name_is_a_warning_and_only_one_in_the_dotenv_file_disturbs_other_commands(tmp_path):
    (tmp_path / ".env").write_text(f"ES_PASSWORD={CANARY}\n")
    doctor, listed, other = (
        run(*command, env={"POSTGRES_PASSWORD": CANARY}, cwd=tmp_path)
        for command in (["doctor", "--json"], ["settings"], ["models", "list"])
    )
    assert statuses(doctor)["settings"] == "warning"
    assert "`elasticsearch`" in said(doctor, "settings")
    assert "postgresql://" in said(doctor, "settings")
    assert re.search(r"POSTGRES_PASSWORD +│ +│ .*IMGPIPELINE_SINKS", listed.stdout)
    assert other.stderr.startswith("Warning: ES_PASSWORD (.env) has no effect: add `elasticsearch`")
    assert "POSTGRES" not in other.stderr
    assert CANARY not in "".join(ended.stdout + ended.stderr for ended in (doctor, listed, other))


def test_every_command_warns_once_of_a_misspelt_setting_and_settings_lists_it_without_its_value(tmp_path):
    (tmp_path / ".env").write_text("IMGPIPELINE_KAFKA_TOPC=canary-4\nIMGPIPELINE_STOR_URL=canary-5\n")
    warnings = [
        "KAFKA_TOPC (.env) is not a setting and has no effect. Did you mean IMGPIPELINE_KAFKA_TOPIC?",
        "STOR_URL (environment) is not a setting and has no effect. Did you mean IMGPIPELINE_STORE_URL?",
    ]
    for command in (["models", "list"], ["settings", "--json"], ["settings"]):
        ended = run(*command, env={"IMGPIPELINE_STOR_URL": "canary-3"}, cwd=tmp_path)
        assert ended.status == 0
        assert ended.stderr.splitlines() == [f"Warning: IMGPIPELINE_{warning}" for warning in warnings]
        assert "canary" not in ended.stdout
    assert re.search(r"IMGPIPELINE_STOR_URL +│ +│ unknown; IMGPIPELINE_STORE_URL\?", ended.stdout)
