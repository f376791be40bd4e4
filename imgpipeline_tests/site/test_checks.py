"""`check_site`: each problem is named with its next step before anything starts."""

import errno
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgpipeline.site import checks
from imgpipeline.site.checks import Problem, check_site
from imgpipeline.site.folder import SiteAnswers, write_site
from imgpipeline_tests.servers.ports import free_port


@pytest.fixture
def folder(tmp_path) -> Path:
    write_site(tmp_path / "site", SiteAnswers(domain="localhost"), datetime(2026, 11, 26, tzinfo=UTC))
    return tmp_path / "site"


def problem_of(folder: Path, name: str) -> Problem | None:
    return dict(check_site(folder))[name]


def test_a_new_folder_is_right(folder):
    found = dict(check_site(folder))
    assert {name for name, problem in found.items() if problem is None} >= {"settings", "secrets", "memory"}


def test_an_empty_folder_says_how_to_fill_it(tmp_path):
    for name in ("settings", "secrets"):
        problem = problem_of(tmp_path, name)
        assert problem is not None
        assert "site init" in problem.next_step


def add_to(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("SITE_TIMEZONE=Mars", "Mars"),
        ("FIRST_DAY=yesterday", "FIRST_DAY"),
        ("STORE_URL=foo", "STORE_URL"),
        ("LOGIN=foo", "LOGIN"),
        ("LOGIN=oidc", "LOGIN_ADDRESS"),
        ("CERTIFICATES=mine", "CERTIFICATES"),
        ("COMPOSE_PROFILES=kafka,postgres,foo", "COMPOSE_PROFILES"),
        ("KEEP_IMAGES_DAYS=x", "KEEP_IMAGES_DAYS"),
        ("PAGES_SUBNET=foo", "PAGES_SUBNET"),
        ("INTERNAL=maybe", "INTERNAL"),
        ("PARTITIONS=0", "PARTITIONS"),
        ("SITE_DOMAIN=192.168.1.5", "SITE_DOMAIN"),
        ("SITE_IMAGE=", "SITE_IMAGE"),
        ("HTTP_PORT=abc", "HTTP_PORT"),
        ("HTTPS_PORT=99999", "HTTPS_PORT"),
        ("HTTPS_PORT=127.0.0.1:8443", "HTTPS_PORT"),
        ("a garbage CANARY", "line 12"),
    ],
)
def test_a_wrong_setting_is_named_and_not_shown(folder, line, named):
    add_to(folder / ".env", line)
    problem = problem_of(folder, "settings")
    assert problem is not None
    assert problem.is_certain
    assert problem.next_step
    assert named in problem.message
    assert "CANARY" not in problem.message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sources.toml", "[[source]"),
        ("sources.toml", '[[source]]\nname = "gate"\nkind = "rstp"\n'),
        ("sources.toml", '[[source]]\nname = "gate"\nkind = "rtsp"\nurl = "rtsp://user:CANARY@10.0.0.2/live"\n'),
        ("rules.toml", "[[rule]]\nnaem = 1\n"),
        ("secrets/sinks", "hub=bar://user:CANARY@sink.test"),
        ("secrets/alert_targets", "tgram://CANARY"),
    ],
)
def test_a_wrong_file_is_a_problem_without_its_secrets(folder, name, content, caplog):
    (folder / name).write_text(content)
    problem = problem_of(folder, "settings")
    assert problem is not None
    assert problem.next_step
    assert "CANARY" not in problem.message + caplog.text


@pytest.mark.parametrize("model", ["MODEL=demo", "MODEL="])
def test_the_model_of_the_demo_is_not_for_cameras(folder, model):
    add_to(folder / ".env", model)
    assert problem_of(folder, "settings") is None
    (folder / "sources.toml").write_text('[[source]]\nname = "gate"\nkind = "rtsp"\nurl = "rtsp://10.0.0.2/live"\n')
    problem = problem_of(folder, "settings")
    assert problem is not None
    assert "demo" in problem.message
    assert "yolox-nano" in problem.next_step


def test_a_model_that_this_version_does_not_have_may_be_of_the_site(folder):
    add_to(folder / ".env", "MODEL=nosuch")
    problem = problem_of(folder, "model")
    assert problem is not None
    assert "nosuch" in problem.message
    assert not problem.is_certain


def test_a_missing_secret_is_named(folder):
    (folder / "secrets" / "kafka_ca.pem").unlink()
    problem = problem_of(folder, "secrets")
    assert problem is not None
    assert "secrets/kafka_ca.pem" in problem.message


def test_a_lost_compose_file_is_named_although_there_are_secrets(folder):
    (folder / "secrets" / "cameras" / "gate").write_text("user:password")
    (folder / "compose.yaml").unlink()
    problem = problem_of(folder, "secrets")
    assert problem is not None
    assert "compose.yaml" in problem.message


def test_a_secret_that_containers_cannot_read_is_named(folder):
    for name in ("secrets/cameras/gate", "secrets/proxy_secret"):
        (folder / name).touch()
        (folder / name).chmod(0o400)
        assert problem_of(folder, "secrets") == Problem(f"containers cannot read {name}", f"chmod 644 {name}")
        (folder / name).chmod(0o644)


def test_secrets_that_others_can_enter_are_a_problem(folder):
    (folder / "secrets").chmod(0o755)
    assert problem_of(folder, "secrets") == Problem(
        "other users of this machine can read the secrets", "chmod 700 secrets"
    )


@pytest.mark.parametrize("content", ["", " \n"])
@pytest.mark.parametrize("name", ["proxy_secret", "s3_secret_code", "users", "cameras/gate"])
def test_an_empty_secret_is_a_problem(folder, name, content):
    (folder / "secrets" / name).write_text(content)
    problem = problem_of(folder, "secrets")
    assert problem is not None
    assert problem.message == f"empty: secrets/{name}"
    assert "docs/deploy.md" in problem.next_step


SOURCE = '[[source]]\nname = "gate"\nkind = "rtsp"\nurl = "rtsp://10.0.0.2/live"\n'


@pytest.mark.parametrize(
    "line", ['credentials_file = "/run/secrets/cameras/gate"', 'credentials_env = "CAMERA_CREDENTIALS"']
)
def test_a_login_that_the_container_does_not_have_is_named(folder, line):
    (folder / "sources.toml").write_text(SOURCE + line)
    problem = problem_of(folder, "settings")
    assert problem is not None
    assert "login of gate" in problem.message
    assert "secrets/cameras/gate, and name it in credentials_file" in problem.next_step


def test_a_login_that_is_there_is_right(folder):
    (folder / "sources.toml").write_text(SOURCE + 'credentials_file = "/run/secrets/cameras/gate"')
    (folder / "secrets" / "cameras" / "gate").write_text("user:password")
    assert problem_of(folder, "settings") is None


def test_logins_that_the_container_cannot_enter_are_a_problem(folder):
    (folder / "secrets" / "cameras").chmod(0o700)
    assert problem_of(folder, "secrets") == Problem(
        "containers cannot read secrets/cameras", "chmod 755 secrets/cameras"
    )


def test_an_empty_key_of_a_store_elsewhere_is_named(folder):
    add_to(folder / ".env", "S3_KEY_CODE=\nS3_KEY_VIEWER=AKIA")
    assert problem_of(folder, "store keys") is None, "the store of the site takes the name of the account"
    add_to(folder / ".env", "COMPOSE_PROFILES=kafka,postgres,proxy")
    problem = problem_of(folder, "store keys")
    assert problem is not None
    assert "S3_KEY_CODE" in problem.message
    assert "S3_KEY_VIEWER" not in problem.message


def test_a_folder_among_the_logins_is_no_problem(folder):
    (folder / "secrets" / "cameras" / "old").mkdir(mode=0o755)
    assert problem_of(folder, "secrets") is None


def test_secrets_that_this_user_may_not_read_are_a_problem(folder, monkeypatch):
    stat = Path.stat

    def refuse(path: Path, **options: bool) -> os.stat_result:
        if path.parent == folder / "secrets":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    problem = problem_of(folder, "settings")
    assert problem is not None
    assert "Permission denied" in problem.message
    assert problem.next_step


@pytest.mark.parametrize(
    ("address", "name", "value"),
    [
        pytest.param("0.0.0.0", "HTTP_PORT", "{port}", id="all addresses"),  # noqa: S104 - as Docker publishes a port
        pytest.param("127.0.0.2", "HTTPS_PORT", "{port}   # as of today", id="another address, with a comment"),
        pytest.param("127.0.0.1", "HTTP_PORT", "127.0.0.1:{port}", id="only this address"),
        pytest.param("127.0.0.1", "MQTT_PORT", '"{port}"', id="of an optional part, in quotation marks"),
    ],
)
def test_a_port_in_use_is_named(folder, address, name, value):
    add_to(folder / ".env", "COMPOSE_PROFILES=proxy,mosquitto,s3")
    with socket.create_server((address, 0)) as taken:
        port = taken.getsockname()[1]
        add_to(folder / ".env", f"{name}={value.format(port=port)}")
        problem = problem_of(folder, "ports")
    assert problem is not None
    assert str(port) in problem.message
    assert name in problem.next_step


def test_two_servers_have_no_port_in_common(folder):
    port = free_port()
    add_to(folder / ".env", f"HTTP_PORT={port}\nHTTPS_PORT={port}")
    problem = problem_of(folder, "ports")
    assert problem is not None
    assert "HTTPS_PORT" in problem.next_step


def test_too_little_disk_is_named_with_its_place(folder, monkeypatch):
    monkeypatch.setattr(checks, "LEAST_DISK", 2**60)
    problem = problem_of(folder, "disk")
    assert problem is not None
    assert str(folder) in problem.message
    assert "/var/lib/docker" in problem.next_step


def test_each_name_below_localhost_is_this_machine(folder):
    assert problem_of(folder, "names") is None


def test_a_domain_without_an_address_is_named(folder):
    text = (folder / ".env").read_text().replace("SITE_DOMAIN=localhost", "SITE_DOMAIN=nowhere.invalid")
    (folder / ".env").write_text(text)
    problem = problem_of(folder, "names")
    assert problem is not None
    assert "nowhere.invalid" in problem.message


@pytest.mark.parametrize(("said", "is_enough"), [("2.23.3", False), ("2.24.0", True), ("v5.1.2", True)])
def test_an_old_compose_is_a_problem(folder, tmp_path, monkeypatch, said, is_enough):
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\necho {said}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert (problem_of(folder, "docker compose") is None) == is_enough


def test_what_a_container_cannot_see_is_no_failure(folder, tmp_path, monkeypatch):
    (tmp_path / "mark").touch()
    monkeypatch.setattr(checks, "CONTAINER_MARK", tmp_path / "mark")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("docker compose", "clock"):
        problem = problem_of(folder, name)
        assert problem is not None
        assert not problem.is_certain


def test_the_name_of_grafana_has_to_have_an_address_only_if_it_is_part_of_the_site(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(checks.socket, "getaddrinfo", lambda name, _port: asked.append(name) or ["an address"])
    text = (folder / ".env").read_text().replace("SITE_DOMAIN=localhost", "SITE_DOMAIN=cameras.example")
    (folder / ".env").write_text(text)
    problem_of(folder, "names")
    add_to(folder / ".env", "COMPOSE_PROFILES=proxy,grafana")
    problem_of(folder, "names")
    assert asked == ["cameras.example", "dagster.cameras.example"] * 2 + ["grafana.cameras.example"]


def test_a_clock_that_is_not_synchronized_is_a_problem(folder, tmp_path, monkeypatch):
    program = tmp_path / "timedatectl"
    program.write_text("#!/bin/sh\necho no\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert problem_of(folder, "clock") is not None
