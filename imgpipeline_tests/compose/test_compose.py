"""The compose file: valid for docker compose's parser, restricted, with commands that exist and networks by tier."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from imgpipeline.settings import Settings
from imgpipeline.settings.variables import variables
from imgpipeline.site.folder import SiteAnswers, write_site
from imgpipeline_tests.cli.command import all_commands
from imgpipeline_tests.compose.project import Service, in_order, read_project, services_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROFILES = (
    "kafka", "s3", "postgres", "proxy", "alerts", "tools",
    "mosquitto", "clickhouse", "opensearch", "prometheus", "grafana",
)  # fmt: skip
LIBRARY_PROGRAMS = {"dagster", "dagster-daemon", "dagster-webserver", "python"}
CONNECTIONS = {
    "kafka": {"setup", "code", "sources", "ingest", "exporter", "tools"},
    "s3": {"setup", "code", "daemon", "webserver", "sources", "ingest", "viewer", "alerts", "exporter", "tools"},
    "postgres": {"setup", "code", "daemon", "webserver", "exporter", "tools"},
    "code": {"daemon", "webserver"},
    "webserver": {"proxy"},
    "viewer": {"proxy"},
    "ingest": {"proxy"},
    "sources": {"prometheus"},
    "exporter": {"prometheus"},
    "prometheus": {"grafana"},
    "grafana": {"proxy"},
    "clickhouse": {"code", "tools", "grafana"},
    "opensearch": {"code", "tools"},
    "mosquitto": {"sources"},
}
"""Who calls which server: the table of docs/deploy.md."""
USERS = {"owners": "0:0", "opensearch": "1000:1000"}
"""Who is not 10001; OpenSearch writes its configuration, which belongs to the user of its image."""
VOLUMES_OF_IMAGES = {
    "apache/kafka": ["/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"],
    "postgres": ["/var/lib/postgresql/data"],
    "clickhouse/clickhouse-server": ["/var/lib/clickhouse"],
    "eclipse-mosquitto": ["/mosquitto/data", "/mosquitto/log"],
    "prom/prometheus": ["/prometheus"],
}
"""`VOLUME` of each image's Dockerfile."""
ALL_MAY_WRITE, NOBODY_MAY_READ = {"/tmp"}, {"/site/secrets"}  # noqa: S108 - folders of containers
NOW = datetime(2026, 11, 26, tzinfo=UTC)
pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    write_site(folder, SiteAnswers(domain="cameras.example", mail="me@cameras.example", monitoring=True), NOW)
    return folder


@pytest.fixture(scope="module")
def project(site):
    return read_project(site / "compose.yaml", site / ".env", PROFILES)


@pytest.fixture(scope="module")
def services(project) -> dict[str, Service]:
    return services_of(project)


CORE = {"setup", "code", "daemon", "webserver", "tools"}
"""They are Dagster, or have its rights: what they may reach in the network `core` is not limited."""
CALL_NOBODY = {"kafka", "s3", "postgres", "mosquitto", "clickhouse", "opensearch"}
KNOW_THEIR_CALLERS = {"viewer", "ingest", "grafana"}
SHOW_ONLY_METRICS = {"sources", "exporter", "prometheus"}


def test_the_file_is_valid_without_optional_parts(site):
    assert "grafana" not in services_of(read_project(site / "compose.yaml", site / ".env", ["kafka", "postgres", "s3"]))


def test_a_site_without_settings_is_refused_with_the_next_step(site, tmp_path):
    (tmp_path / ".env").write_text("")
    with pytest.raises(ValueError, match="imgpipeline site init"):
        read_project(site / "compose.yaml", tmp_path / ".env", PROFILES)


def test_services_start_in_an_order(services):
    assert next(in_order(services)).name == "owners"


def test_no_service_has_more_rights_than_it_needs(services):
    for service in services.values():
        given = service.given
        assert given["cap_drop"] == ["ALL"], service.name
        assert given["security_opt"] == ["no-new-privileges:true"], service.name
        assert given["user"] == USERS.get(service.name, "10001:10001"), service.name
        assert given.get("read_only") or service.name == "opensearch", service.name
        assert given.get("cap_add", []) == (["CHOWN"] if service.name == "owners" else []), service.name
        assert not any("docker.sock" in volume["source"] for volume in given.get("volumes") or []), service.name


def test_each_folder_in_memory_belongs_to_the_process_that_writes_there(services):
    """Docker gives a tmpfs over a folder of the image to root, with the mode of that folder."""
    for service in services.values():
        for target, _, options in (each.partition(":") for each in service.strings("tmpfs")):
            assert target in ALL_MAY_WRITE | NOBODY_MAY_READ or options == "uid=10001,gid=10001", service.name


def test_no_volume_lies_around_a_volume_of_the_image(services):
    """The image's own volume would hide that part of it, belong to another user, and be lost with the container."""
    for service in services.values():
        image = service.given["image"].partition(":")[0]
        for volume in service.given.get("volumes") or []:
            hidden = [each for each in VOLUMES_OF_IMAGES.get(image, ()) if each.startswith(f"{volume['target']}/")]
            assert not hidden, f"{service.name}: {hidden}"


def test_the_fixed_network_is_outside_of_those_that_docker_gives_away(project):
    subnet = ip_network(project["networks"]["pages"]["ipam"]["config"][0]["subnet"])
    for pool in ("172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16"):
        assert not subnet.overlaps(ip_network(pool))


def test_each_service_has_limits_and_time_to_end(services):
    for service in services.values():
        given = service.given
        assert int(given["mem_limit"]) > 0, service.name
        assert int(given["pids_limit"]) > 0, service.name
        assert given["logging"]["options"]["max-size"], service.name
        assert given["stop_grace_period"] == "1m0s", service.name


@pytest.mark.parametrize("file", ["kafka/password.sh", "proxy/own/README.md"])
def test_a_program_beside_the_broker_has_a_heap_of_its_own(file):
    text = (DEPLOY / "compose" / file).read_text().replace("\\\n", "")
    programs = text.count("/opt/kafka/bin/")
    assert programs > 0
    assert len(re.findall(r"KAFKA_HEAP_OPTS=-Xmx128m[^`]*?/opt/kafka/bin/", text)) == programs


def test_each_service_that_stays_has_a_health_check(services):
    short = {"owners", "setup", "tools"}
    assert {service.name for service in services.values() if not service.health_command} == short


def commands_with_options() -> dict[tuple[str, ...], set[str]]:
    return {words: {option for each in command.params for option in each.opts} for words, command in all_commands()}


def test_each_command_exists(services):
    commands = commands_with_options()
    own = [service for service in services.values() if service.given["image"].startswith("imgpipeline:")]
    for words in [*(service.strings("command") for service in own), *(service.health_command for service in own)]:
        program, *arguments = [word for word in words if word != "/opt/imgpipeline/entrypoint.sh"] or ["python"]
        if program == "imgpipeline":
            arguments = arguments[2:] if arguments[0] == "--health-port" else arguments
            found = next(tuple(arguments[:count]) for count in (2, 1) if tuple(arguments[:count]) in commands)
            assert {argument for argument in arguments if argument.startswith("--")} <= commands[found]
        else:
            assert program in LIBRARY_PROGRAMS | {"/volumes/kafka"}, words


def test_each_variable_is_a_setting(project, services):
    known = {each for name, field in Settings.model_fields.items() for each in variables(name, field)}
    for service in services.values():
        secrets = {secret.get("target") or "" for secret in service.given["secrets"]}
        used = {name for name in {*service.environment, *secrets} if name.startswith("IMGPIPELINE_")}
        assert used <= known, service.name


def test_each_mounted_file_and_secret_is_in_the_folder(project, services):
    for service in services.values():
        for volume in service.given.get("volumes") or []:
            assert volume["type"] == "volume" or Path(volume["source"]).exists(), volume
    for secret in project["secrets"].values():
        assert Path(secret["file"]).is_file(), secret


def test_no_container_sees_the_secrets_of_others(services):
    for service in services.values():
        sees_folder = any(volume["target"] == "/site" for volume in service.given.get("volumes") or [])
        assert not sees_folder or "/site/secrets" in service.strings("tmpfs"), service.name
        cameras = [each for each in service.given.get("volumes") or [] if each["source"].endswith("/secrets/cameras")]
        assert [each["read_only"] for each in cameras] == ([True] if service.name == "sources" else []), service.name


@pytest.mark.parametrize("server", CONNECTIONS)
def test_those_that_call_a_server_share_a_network_with_it_and_no_others_do(services, server):
    sharing = {name for name, each in services.items() if each.networks & services[server].networks} - {server}
    assert CONNECTIONS[server] <= sharing
    if server not in KNOW_THEIR_CALLERS | SHOW_ONLY_METRICS:
        core = CORE if "core" in services[server].networks else set()
        assert sharing - CALL_NOBODY - core <= CONNECTIONS[server]


def test_the_docs_name_each_connection(services):
    text = (DEPLOY.parent / "docs" / "deploy.md").read_text()
    for server, callers in CONNECTIONS.items():
        row = re.search(rf"^\| `{server}` \| (.+?) \|", text, re.MULTILINE)
        assert row is not None, server
        assert set(re.findall(r"`([a-z0-9]+)`", row[1])) == callers, server


def commands_in_containers(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the service and the words of each `docker compose run` and `exec` of a page."""
    text = (DEPLOY.parent / page).read_text().replace("\\\n", " ")
    for line in re.findall(r"docker compose (?:run|exec) ([^`\n|<>#]+)", text):
        words = iter(shlex.split(line))
        service = next(word for word in words if word[0] not in "-/")
        yield service, [word for word in words if not word.endswith("/entrypoint.sh")]


@pytest.mark.parametrize("page", ["docs/deploy.md", "docs/restore.md", "deploy/compose/proxy/own/README.md"])
def test_the_docs_name_services_and_commands_that_exist(services, page):
    commands = commands_with_options()
    found = list(commands_in_containers(page))
    assert found
    for service, words in found:
        assert service in services
        if words[:1] == ["imgpipeline"]:
            arguments = words[1:]
            command = next(tuple(arguments[:count]) for count in (2, 1) if tuple(arguments[:count]) in commands)
            assert {word for word in arguments if word.startswith("--")} <= commands[command], arguments


def test_security_names_each_service_with_its_networks_and_prefixes(services):
    text = (DEPLOY.parent / "SECURITY.md").read_text().partition("### Services of the compose file")[2]
    rights = tomllib.loads((DEPLOY / "compose" / "rights.toml").read_text())["s3"]
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`([a-z0-9]+)`", row[0])]
    assert sorted(listed) == sorted(services)
    for row in rows:
        names = re.findall(r"`([a-z0-9]+)`", row[0])
        own = {network for name in names for network in services[name].networks}
        assert set(re.findall(r"`([a-z-]+)`", re.sub(r"\(.*?\)", "", row[1]))) == own, names
        prefixes = {each for name in names for may in rights.get(name, {}).values() if may is not True for each in may}
        assert set(re.findall(r"`([a-z_]+/?\*)`", row[2] + row[3])) == prefixes - {"*"}, names


def test_each_address_in_a_setting_is_a_service_on_a_shared_network(services):
    for service in services.values():
        for value in service.environment.values():
            host = urlsplit(value).hostname if "://" in value else value.partition(":")[0]
            if host in services and host != service.name:
                assert services[str(host)].networks & service.networks, f"{service.name} -> {value}"


def test_no_server_has_the_private_key_of_another(services):
    holders = {}
    for service in services.values():
        for secret in service.given["secrets"]:
            if secret["source"].endswith("_server"):
                holders.setdefault(secret["source"], []).append(service.name)
    assert holders == {"kafka_server": ["kafka"], "mqtt_server": ["mosquitto"]}


def test_a_store_at_aws_has_its_own_key_ids_and_an_address(tmp_path):
    write_site(tmp_path / "site", SiteAnswers(domain="cameras.example", store="s3://company/site"), NOW)
    environment = tmp_path / "site" / ".env"
    environment.write_text(environment.read_text() + "S3_KEY_CODE=AKIACODE\n")
    code = services_of(read_project(tmp_path / "site" / "compose.yaml", environment, ["kafka"]))["code"]
    assert code.environment["AWS_ACCESS_KEY_ID"] == "AKIACODE"
    assert code.environment["DAGSTER_LOGS_ENDPOINT"] == "https://s3.us-east-1.amazonaws.com"


@pytest.mark.parametrize(("line", "port"), [("", ""), ("HTTPS_PORT=8443\n", ":8443")])
def test_links_lead_to_the_port_of_the_pages(site, tmp_path, line, port):
    environment = tmp_path / ".env"
    environment.write_text((site / ".env").read_text() + line)
    services = services_of(read_project(site / "compose.yaml", environment, PROFILES))
    for name, variable, host in (
        ("code", "IMGPIPELINE_VIEWER_URL", "cameras.example"),
        ("code", "IMGPIPELINE_DAGSTER_URL", "dagster.cameras.example"),
        ("viewer", "IMGPIPELINE_DAGSTER_URL", "dagster.cameras.example"),
        ("alerts", "IMGPIPELINE_VIEWER_URL", "cameras.example"),
        ("grafana", "GF_SERVER_ROOT_URL", "grafana.cameras.example"),
    ):
        assert services[name].environment[variable] == f"https://{host}{port}"


def test_each_process_logs_in_the_format_of_the_site(site, tmp_path):
    environment = tmp_path / ".env"
    environment.write_text((site / ".env").read_text() + "LOG_FORMAT=json\n")
    services = services_of(read_project(site / "compose.yaml", environment, PROFILES))
    told = {name for name, each in services.items() if each.environment.get("IMGPIPELINE_LOG_FORMAT") == "json"}
    assert told == {"setup", "code", "tools", "sources", "ingest", "viewer", "alerts", "exporter"}


def test_an_upgrade_keeps_the_routes_of_the_site_which_the_proxy_reads(tmp_path):
    folder, answers = tmp_path / "site", SiteAnswers(domain="cameras.example")
    write_site(folder, answers, NOW)
    route = folder / "proxy" / "own" / "oauth2.yaml"
    route.write_text("http: {}\n")
    write_site(folder, answers, NOW)
    assert route.read_text() == "http: {}\n"
    proxy = services_of(read_project(folder / "compose.yaml", folder / ".env", ["proxy"]))["proxy"]
    mounted = {volume["source"]: volume["target"] for volume in proxy.given["volumes"]}
    (read,) = (word.partition("=")[2] for word in proxy.strings("command") if "providers.file.directory" in word)
    assert Path(read) in Path(mounted[str(route.parent)]).parents


def test_the_health_check_of_kafka_does_not_reserve_the_heap_of_the_broker(services):
    kafka = services["kafka"]
    (heap,) = (word.partition("=")[2] for word in kafka.health_command if word.startswith("KAFKA_HEAP_OPTS="))
    assert "-Xms" in kafka.environment["KAFKA_HEAP_OPTS"]
    assert "-Xms" not in heap


def test_mosquitto_stays_at_a_version_that_reads_its_file_of_passwords(services):
    """Its owner is the administrator, and 10001 reads it; from 2.1 on, mosquitto is stricter."""
    assert re.fullmatch(r"eclipse-mosquitto:2\.0\.\d+", services["mosquitto"].given["image"])


def test_the_image_holds_the_entry_point_and_no_compiler():
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    final = text.rpartition("FROM ")[2]
    assert 'ENTRYPOINT ["/opt/imgpipeline/entrypoint.sh"]' in final
    assert "USER 10001:10001" in final
    assert not re.search(r"gcc|build-essential|-dev\b", text)
    assert (DEPLOY / "docker" / "entrypoint.sh").stat().st_mode & 0o111
