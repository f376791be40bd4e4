"""`write_site`: a folder that is complete, keeps what is people's, and shows secrets only once."""

import contextlib
import errno
import hashlib
import json
import os
import resource
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import bcrypt
import pytest

from imgpipeline import __version__
from imgpipeline.errors import ConfigurationError, UsageError
from imgpipeline.site.checks import check_site
from imgpipeline.site.environment import read_environment
from imgpipeline.site.folder import SiteAnswers, write_site
from imgpipeline.site.secrets import write_file
from imgpipeline.sources.configuration import load_sources
from imgpipeline.web.keys import KeyFile

NOW = datetime(2026, 11, 26, tzinfo=UTC)
ANSWERS = SiteAnswers(domain="cameras.example")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("here") / "cameras"
    cameras = ["gate=rtsp://user:pass@10.0.0.2/live", "yard=rtsp://10.0.0.3/live"]
    return folder, write_site(folder, replace(ANSWERS, cameras=cameras, sinks=["clickhouse"]), NOW)


def test_only_the_owner_enters_the_folder_of_secrets_and_containers_read_each_file(written):
    secrets = written[0] / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o004 for path in secrets.iterdir())


def test_the_first_user_has_the_password_that_is_shown_once(written):
    folder, shown = written
    name, _, hashed = (folder / "secrets" / "users").read_text().strip().partition(":")
    assert name == shown["user"]
    assert bcrypt.checkpw(shown["password"].encode(), hashed.encode())
    assert KeyFile(folder / "secrets" / "api_keys.json").find(shown["api key"]) is not None


def test_passwords_are_only_below_secrets(written):
    folder, shown = written
    secret = [path.read_text().strip() for path in (folder / "secrets").iterdir() if "password" in path.name]
    outside = [path for path in folder.rglob("*") if path.is_file() and "secrets" not in path.parts]
    for path in outside:
        text = path.read_text()
        assert not any(each in text for each in [*secret, shown["password"], "user:pass"]), path


def test_each_password_differs(written):
    folder, _ = written
    found = [path.read_text() for path in (folder / "secrets").iterdir() if "password" in path.name]
    assert len(set(found)) == len(found)


def test_the_certificate_of_kafka_is_signed_by_its_authority(written):
    secrets = written[0] / "secrets"
    context = ssl.create_default_context(cafile=secrets / "kafka_ca.pem")
    assert len(context.get_ca_certs()) == 1
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(secrets / "kafka_server.pem")


@pytest.mark.parametrize(("name", "host"), [("kafka", "kafka"), ("mqtt", "mosquitto")])
def test_a_strict_client_trusts_each_server(written, name, host):
    secrets = written[0] / "secrets"
    trusting = ssl.create_default_context(cafile=secrets / f"{name}_ca.pem")
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(secrets / f"{name}_server.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server, server_hostname=host)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.version() is not None
    assert client.getpeercert()["subject"] == ((("commonName", host),),)


@pytest.mark.parametrize("lost", ["kafka_ca.pem", "kafka_server.pem", "mqtt_ca.pem", "mqtt_server.pem"])
def test_half_of_a_pair_of_certificates_is_never_replaced(tmp_path, lost):
    """The other half may be the authority of people's own Kafka."""
    secrets = tmp_path / "site" / "secrets"
    write_site(tmp_path / "site", ANSWERS, NOW)
    (secrets / lost).unlink()
    kept = {path: path.read_bytes() for path in secrets.glob("*.pem")}
    with pytest.raises(ConfigurationError, match=lost) as caught:
        write_site(tmp_path / "site", ANSWERS, NOW)
    assert "move" in caught.value.next_step
    assert kept == {path: path.read_bytes() for path in secrets.glob("*.pem")}


@pytest.mark.parametrize("name", ["kafka", "mqtt"])
def test_a_lost_pair_of_certificates_is_made_again(tmp_path, name):
    secrets = tmp_path / "site" / "secrets"
    write_site(tmp_path / "site", ANSWERS, NOW)
    for half in ("ca", "server"):
        (secrets / f"{name}_{half}.pem").unlink()
    write_site(tmp_path / "site", ANSWERS, NOW)
    assert (secrets / f"{name}_server.pem").read_text().endswith((secrets / f"{name}_ca.pem").read_text())


def mqtt_hash(password: str, line: str) -> str:
    _, _, rounds, salt, _ = line.split("$")
    return b64encode(hashlib.pbkdf2_hmac("sha512", password.encode(), b64decode(salt), int(rounds))).decode()


def test_a_new_password_of_mqtt_is_valid_and_added_cameras_stay(tmp_path):
    secrets = tmp_path / "site" / "secrets"
    write_site(tmp_path / "site", ANSWERS, NOW)
    with (secrets / "mqtt_users").open("a") as file:
        file.write("yard:$7$101$salt$hash\n")
    (secrets / "mqtt_password").unlink()
    write_site(tmp_path / "site", ANSWERS, NOW)
    own, added = (secrets / "mqtt_users").read_text().splitlines()
    assert own.endswith("$" + mqtt_hash((secrets / "mqtt_password").read_text(), own))
    assert added == "yard:$7$101$salt$hash"


@pytest.mark.parametrize("damaged", ["{", "{}", "[]"])
def test_a_damaged_file_of_accounts_is_named_and_kept(tmp_path, damaged):
    path = tmp_path / "site" / "secrets" / "s3_users.json"
    write_site(tmp_path / "site", ANSWERS, NOW)
    path.write_text(damaged)
    with pytest.raises(ConfigurationError, match=r"s3_users\.json") as caught:
        write_site(tmp_path / "site", ANSWERS, NOW)
    assert caught.value.next_step
    assert path.read_text() == damaged


def test_a_wrong_line_of_the_settings_is_found_before_anything_is_replaced(tmp_path):
    write_site(tmp_path / "site", ANSWERS, NOW)
    (tmp_path / "site" / "compose.yaml").write_text("of an older version")
    (tmp_path / "site" / ".env").write_text("a garbage\n")
    with pytest.raises(ConfigurationError, match="line 1"):
        write_site(tmp_path / "site", ANSWERS, NOW)
    assert (tmp_path / "site" / "compose.yaml").read_text() == "of an older version"


@pytest.mark.parametrize("lost", ["s3_secret_code", "proxy_secret"])
def test_a_new_secret_is_in_the_files_that_are_made_from_it_and_added_accounts_stay(tmp_path, lost):
    secrets = tmp_path / "site" / "secrets"
    write_site(tmp_path / "site", ANSWERS, NOW)
    accounts = json.loads((secrets / "s3_users.json").read_text())
    added = accounts["accessAccounts"]["backup"] = {"access": "backup", "secret": "of people", "role": "user"}
    (secrets / "s3_users.json").write_text(json.dumps(accounts))
    old = (secrets / lost).read_text()
    (secrets / lost).unlink()
    write_site(tmp_path / "site", ANSWERS, NOW)
    assert (secrets / lost).read_text() != old
    accounts = json.loads((secrets / "s3_users.json").read_text())["accessAccounts"]
    assert accounts["backup"] == added
    assert accounts["code"]["secret"] == (secrets / "s3_secret_code").read_text()
    assert (secrets / "proxy_secret").read_text() in (secrets / "proxy_headers.yaml").read_text()


def test_the_password_of_a_camera_is_a_secret(written):
    folder, _ = written
    assert (folder / "secrets" / "cameras" / "gate").read_text() == "user:pass"
    assert 'url = "rtsp://10.0.0.2/live"' in (folder / "sources.toml").read_text()


def test_each_camera_has_its_own_password_as_plain_text(tmp_path):
    cameras = ["gate=rtsp://a:p%40ss%3A1@10.0.0.2/live", "yard=rtsp://b:other@10.0.0.3/live"]
    write_site(tmp_path / "site", replace(ANSWERS, cameras=cameras), NOW)
    gate, yard = load_sources(tmp_path / "site" / "sources.toml")
    for camera, login in ((gate, "a:p@ss:1"), (yard, "b:other")):
        assert str(camera.credentials_file) == f"/run/secrets/cameras/{camera.name}"
        assert (tmp_path / "site" / "secrets" / "cameras" / camera.name).read_text() == login


def test_a_sink_of_the_site_has_its_profile_and_its_password(written):
    folder, _ = written
    password = (folder / "secrets" / "clickhouse_password").read_text()
    assert "clickhouse" in read_environment(folder / ".env")["COMPOSE_PROFILES"].split(",")
    expected = f"warehouse=clickhouse://imgpipeline:{password}@clickhouse:8123/default"
    assert (folder / "secrets" / "sinks").read_text() == expected


def test_the_users_of_the_store_have_the_secrets_of_the_processes(written):
    secrets = written[0] / "secrets"
    accounts = json.loads((secrets / "s3_users.json").read_text())["accessAccounts"]
    assert accounts["viewer"]["secret"] == (secrets / "s3_secret_viewer").read_text()
    assert "admin" not in accounts


def test_a_second_call_renews_the_files_of_the_version_and_keeps_the_rest(tmp_path):
    folder = tmp_path / "site"
    write_site(folder, ANSWERS, NOW)
    (folder / "secrets" / "sinks").write_text("mine=https://sink.test")
    kept = {path: path.read_bytes() for path in (folder / "secrets").iterdir() if path.is_file()}
    del kept[folder / "secrets" / "mqtt_users"]  # has a new salt
    (folder / ".env").write_text("MINE=1")
    (folder / "compose.yaml").write_text("old")
    made_again = [folder / "secrets" / "proxy_secret", folder / "secrets" / "proxy_headers.yaml"]
    for path in made_again:
        path.unlink()
    shown = write_site(folder, ANSWERS, NOW)
    assert shown == {}
    environment = (folder / ".env").read_text()
    assert environment.startswith("MINE=1\nSITE_IMAGE=")
    assert "KEEP_IMAGES_DAYS" not in environment, "an upgrade deletes no images"
    assert (folder / "compose.yaml").read_text() != "old"
    assert made_again[0].read_text() in made_again[1].read_text()
    assert all((path.read_bytes() == content) == (path not in made_again) for path, content in kept.items())


def test_a_new_version_names_its_image_unless_people_named_another(tmp_path):
    environment = tmp_path / "site" / ".env"
    write_site(tmp_path / "site", ANSWERS, NOW)
    current = environment.read_text()
    environment.write_text(current.replace(f"SITE_IMAGE=imgpipeline:{__version__}", "SITE_IMAGE=imgpipeline:0.0.1"))
    write_site(tmp_path / "site", ANSWERS, NOW)
    assert environment.read_text() == current
    own = current.replace(f"SITE_IMAGE=imgpipeline:{__version__}", "SITE_IMAGE=registry.test/imgpipeline:0.0.1")
    environment.write_text(own)
    write_site(tmp_path / "site", ANSWERS, NOW)
    assert environment.read_text() == own


def test_containers_read_what_a_careful_administrator_writes(tmp_path):
    before = os.umask(0o077)
    try:
        write_site(tmp_path / "site", replace(ANSWERS, cameras=["gate=rtsp://a:b@10.0.0.2/live"]), NOW)
    finally:
        os.umask(before)
    seen = [path for path in (tmp_path / "site").rglob("*") if path.is_file()]
    assert [path for path in seen if not path.stat().st_mode & 0o004] == []
    folders = [path for path in (tmp_path / "site").rglob("*") if path.is_dir() and path.name != "secrets"]
    assert [path for path in [tmp_path / "site", *folders] if path.stat().st_mode & 0o005 != 0o005] == []


def test_a_sink_elsewhere_needs_a_way_out(tmp_path):
    write_site(tmp_path / "site", replace(ANSWERS, sinks=["hub=opensearch+https://sink.test:9200"]), NOW)
    assert read_environment(tmp_path / "site" / ".env")["INTERNAL"] == "false"


def test_a_store_at_aws_has_the_address_of_its_region_and_holds_the_logs_too(tmp_path):
    write_site(tmp_path / "site", replace(ANSWERS, store="s3://company/site"), NOW)
    settings = read_environment(tmp_path / "site" / ".env")
    assert settings["S3_ENDPOINT"] == "https://s3.us-east-1.amazonaws.com"
    assert settings["LOGS_BUCKET"] == "company"


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "https://cameras.example"},
        {"domain": "192.168.1.5"},
        {"mail": "notamail"},
        {"store": "gs://company/site"},
        {"store": "s3://company/site", "store_endpoint": "s3.test"},
        {"sinks": ["clikhouse"]},
        {"sinks": ["foo=bar://CANARY"]},
        {"model": "nosuch"},
        {"timezone": "Mars/Base"},
        {"alert_targets": "CANARY"},
        {"alert_targets": "tgram://CANARY"},
    ],
)
def test_an_answer_that_cannot_be_right_is_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(UsageError) as caught:
        write_site(tmp_path / "site", replace(ANSWERS, **wrong), NOW)
    assert caught.value.next_step
    assert "CANARY" not in str(caught.value)
    assert not (tmp_path / "site").exists()


def test_a_store_elsewhere_needs_no_server_and_a_way_out(tmp_path):
    write_site(tmp_path / "site", replace(ANSWERS, store="s3://company/site", store_endpoint="https://s3.test"), NOW)
    settings = read_environment(tmp_path / "site" / ".env")
    assert "s3" not in settings["COMPOSE_PROFILES"].split(",")
    assert settings["S3_ENDPOINT"] == "https://s3.test"
    assert settings["INTERNAL"] == "false"


@pytest.mark.parametrize(
    "camera",
    [
        "rtsp://user:CANARY@10.0.0.2/live",
        "http://user:CANARY@10.0.0.2/live?a=b",
        "gate",
        "gate=",
        "gate=10.0.0.2",
        "gate=rtsp://CANARY@10.0.0.2/live",
        "../gate=rtsp://user:CANARY@10.0.0.2/live",
        'gate"=rtsp://10.0.0.2/live',
        "gate=rtsp://10.0.0.2:99999/live",
        "gate=rtsp://user:CANARY/1@10.0.0.2/live",
        "gate=rtsp://user:1/CANARY@10.0.0.2/live",
        "gate=rtsp://user:1#CANARY@10.0.0.2/live",
        "gate=rtsp://user:1?CANARY@10.0.0.2/live",
        "gate=rtsp://10.0.0.2/live?user=admin&password=CANARY",
        "gate=rtsp://10.0.0.2/user=admin&password=CANARY&channel=1.sdp",
        "gate=rtsp://10.0.0.2/a b",
    ],
)
def test_a_camera_that_cannot_be_right_is_refused_without_showing_its_password(tmp_path, camera):
    with pytest.raises(UsageError) as caught:
        write_site(tmp_path / "site", replace(ANSWERS, cameras=[camera]), NOW)
    assert caught.value.next_step
    assert "CANARY" not in str(caught.value)
    assert not (tmp_path / "site").exists()


def test_a_name_is_not_given_to_two_cameras(tmp_path):
    cameras = ["gate=rtsp://10.0.0.2/live", "gate=rtsp://10.0.0.3/live"]
    with pytest.raises(UsageError, match="Camera 2"):
        write_site(tmp_path / "site", replace(ANSWERS, cameras=cameras), NOW)


@pytest.mark.parametrize("path", ['s"x', r"s\x", "Straße/🎥", "live?channel=1&subtype=0"])
def test_each_address_of_a_camera_can_be_read_again(tmp_path, path):
    write_site(tmp_path / "site", replace(ANSWERS, cameras=[f"gate=rtsp://u:p@10.0.0.2/{path}"]), NOW)
    (gate,) = load_sources(tmp_path / "site" / "sources.toml")
    assert gate.url == f"rtsp://10.0.0.2/{path}"


def test_keys_of_a_store_elsewhere_wait_for_those_who_have_them(tmp_path):
    write_site(tmp_path / "site", replace(ANSWERS, store="s3://company/site"), NOW)
    environment = read_environment(tmp_path / "site" / ".env")
    assert {environment[f"S3_KEY_{user}"] for user in ("CODE", "DAGSTER", "VIEWER")} == {""}
    problem = dict(check_site(tmp_path / "site"))["secrets"]
    assert problem is not None
    assert "secrets/s3_secret_code" in problem.message


def test_a_new_site_keeps_images_for_a_week(written):
    assert read_environment(written[0] / ".env")["KEEP_IMAGES_DAYS"] == "7"


def test_a_full_disk_leaves_no_empty_secret_and_is_named(tmp_path):
    """A limit of the size of files stands in for it."""
    write_site(tmp_path / "site", ANSWERS, NOW)
    lost = tmp_path / "site" / "secrets" / "s3_users.json"
    lost.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_file(lost, "x" * 1000)
        with pytest.raises(ConfigurationError, match="too large") as caught:
            write_site(tmp_path / "site", ANSWERS, NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "None" not in str(caught.value)
    assert not lost.exists()


@contextlib.contextmanager
def blocked(path: Path) -> Iterator[None]:
    """Let a file fail to be written: a folder has the name of its partial content."""
    (path.parent / f".{path.name}.partial").mkdir(parents=True)
    yield
    (path.parent / f".{path.name}.partial").rmdir()


@pytest.mark.parametrize("failed", ["sources.toml", "rules.toml", ".env", "secrets/proxy_secret"])
def test_a_first_call_that_fails_halfway_loses_no_camera(tmp_path, failed):
    folder, answers = tmp_path / "site", replace(ANSWERS, cameras=["gate=rtsp://a:b@10.0.0.2/live"])
    with blocked(folder / failed), pytest.raises(ConfigurationError):
        write_site(folder, answers, NOW)
    is_marked = (folder / ".env").exists()
    write_site(folder, ANSWERS if is_marked else answers, NOW)
    assert [source.name for source in load_sources(folder / "sources.toml")] == ["gate"]


def test_a_key_file_that_cannot_be_written_costs_no_password(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(KeyFile, "add", raise_full_disk)
        with pytest.raises(ConfigurationError):
            write_site(tmp_path / "site", ANSWERS, NOW)
    assert write_site(tmp_path / "site", ANSWERS, NOW).keys() == {"user", "password", "api key"}


def raise_full_disk(*_: object, **__: object) -> str:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_folder_that_cannot_be_written_is_an_error_with_a_next_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        write_site(tmp_path / "file" / "site", ANSWERS, NOW)
    assert caught.value.next_step
