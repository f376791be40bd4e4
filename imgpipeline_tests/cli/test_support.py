"""`imgpipeline upgrade --check` and `support-bundle`."""

import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from imgpipeline.contracts.keys import segment_key
from imgpipeline.ledger import segment
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.ledger.samples import CHAIN, frame, write_chain
from imgpipeline_tests.servers.ports import free_port


@pytest.mark.medium
def test_the_check_before_an_upgrade_fails_on_a_store_of_a_later_release(folder_site, store_of, tmp_path, monkeypatch):
    store = store_of(folder_site)
    write_chain(store, [frame(0)])
    current = run("upgrade", "--check", env=folder_site, cwd=tmp_path)
    assert (current.status, current.stdout.count("same")) == (0, 3)
    assert "can be started on" in current.stderr

    monkeypatch.setattr(segment, "FORMAT_VERSION", 99)
    store.delete(segment_key(CHAIN, 0))
    write_chain(store, [frame(0)])
    later = run("upgrade", "--check", env=folder_site, cwd=tmp_path)
    assert (later.status, "program too old: do not start" in later.stdout) == (1, True)
    assert "must not be started on" in later.stderr


SECRETS = {
    "AWS_ACCESS_KEY_ID": "canary-store-id",
    "AWS_SECRET_ACCESS_KEY": "canary-store/key",
    "IMGPIPELINE_KAFKA_PASSWORD": 'canary "kafka"\\word',
    "IMGPIPELINE_PROXY_SECRET": "canary-proxy",
    "IMGPIPELINE_SINKS": "warehouse=postgresql://anna:canary%40sink@127.0.0.1:1/site",
    "IMGPIPELINE_ALERT_TARGETS": "guards=json://bob:canary-alert@127.0.0.1:1/",
    "DAGSTER_POSTGRES_PASSWORD": "canary-database",
}
DAGSTER = """
storage:
  postgres:
    postgres_db: {username: dagster, password: canary-flow}
other:
  postgres_url: postgresql://dagster:canary-url@db/dagster
  password: |
    canary-block
  api_token:
    canary-plain
  hostname: db.example
"""


def texts_of(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file in a support bundle."""
    with ZipFile(file) as bundle:
        for name in bundle.namelist():
            yield name, bundle.read(name).decode()


@pytest.fixture
def unhealthy(tmp_path: Path) -> dict[str, str]:
    """A site with secrets everywhere, all of whose servers are away."""
    (tmp_path / "dagster.yaml").write_text(DAGSTER)
    (tmp_path / ".env").write_text("IMGPIPELINE_MQTT_PASSWORD=canary-mqtt\n")
    return {
        **SECRETS,
        "DAGSTER_HOME": str(tmp_path),
        "IMGPIPELINE_STORE_URL": "s3://bucket/site",
        "IMGPIPELINE_S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "IMGPIPELINE_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        # Shown, since it is no secret: whatever a command should not have said is masked in the end.
        "IMGPIPELINE_KAFKA_USERNAME": " ".join(
            ("pipeline", *SECRETS.values(), "canary@sink", "ftp://eve:canary-x@host")
        ),
        "IMGPIPELINE_STORE_PATIENCE_S": "1",
    }


@pytest.mark.slow
def test_a_support_bundle_of_a_site_without_servers_says_what_failed_and_holds_no_secret(unhealthy, tmp_path):
    made = run("support-bundle", "report.zip", env=unhealthy, cwd=tmp_path)
    assert (made.status, made.stdout) == (0, "")
    texts = dict(texts_of(tmp_path / "report.zip"))
    assert set(texts) == {"doctor --json.txt", "health --json.txt", "status --json.txt", "settings --json.txt",
                          "upgrade --check.txt", "versions.txt", "dagster.yaml.txt"}  # fmt: skip
    assert "Kafka cannot be reached" in texts["doctor --json.txt"]
    assert "exit status 1" in texts["upgrade --check.txt"]
    assert '"IMGPIPELINE_KAFKA_USERNAME": "pipeline ***' in texts["settings --json.txt"]
    assert "hostname: db.example" in texts["dagster.yaml.txt"]
    assert re.search(r"^duckdb [0-9]", texts["versions.txt"], re.MULTILINE)
    for name, text in texts.items():
        assert "canary" not in text, name
    assert "canary" not in made.stderr
