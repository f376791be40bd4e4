"""The metrics of a site, computed from log, ledger and store alone."""

import sys
from datetime import UTC, datetime, timedelta
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imgpipeline.defs.recent_runs import read_recent_runs
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.log import read_log
from imgpipeline.web.exporter import METRICS, SiteMetrics, refresh_until, serve_site_metrics
from imgpipeline_tests.ledger.samples import NOON, dead_letter, frames, write_chain
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.processes import ServerProcess
from imgpipeline_tests.servers.waiting import wait_until

PARTS = {"log", "sources", "days", "audit", "alerts", "sinks", "runs"}
SECRET_URL = f"postgresql://ada:secret-canary@{LOOPBACK}:{free_port()}/site"


@pytest.fixture
def metrics(tmp_path, monkeypatch) -> SiteMetrics:
    """Those of a folder store without a Kafka broker, shortly after noon of the samples' day."""
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", (tmp_path / "store").as_uri())
    monkeypatch.setenv("IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS", f"{LOOPBACK}:{free_port()}")
    monkeypatch.setenv("IMGPIPELINE_SINKS", f"warehouse={SECRET_URL}")
    settings = load_settings()
    return SiteMetrics(open_store(settings), settings, lambda: NOON + timedelta(minutes=1), read_recent_runs)


def scraped(metrics: SiteMetrics) -> dict[tuple[str, ...], float]:
    """Return the values of a page, by name without prefix and the values of the labels, sorted by their names."""
    metrics.refresh()
    with serve_site_metrics(metrics, 0, LOOPBACK) as port, urlopen(f"http://{LOOPBACK}:{port}/metrics") as page:
        text = page.read().decode()
    assert "canary" not in text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (one.name.removeprefix("imgpipeline_"), *(one.labels[name] for name in sorted(one.labels))): one.value
        for one in samples
    }


@pytest.mark.slow
def test_parts_that_answer_are_shown_while_others_are_away(tmp_path, monkeypatch, metrics):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{SECRET_URL}', no_field: 1}}}}")
    write_chain(metrics.store, [*frames(0, 5), dead_letter(5)])
    found = scraped(metrics)
    assert {name: found["part_up", name] for name in PARTS} == {**dict.fromkeys(PARTS, 1.0), "log": 0.0, "runs": 0.0}
    assert found["part_failures_total", "TransientError", "runs"] == 1
    assert found["source_frames_today", "cam-1"] == 5
    assert found["source_up", "cam-1"] == 1
    assert found["dead_letters_today", "DECODE_FAILED"] == 1
    assert found["days_behind",] == 1
    assert found["sink_failing", "warehouse"] == 1
    assert not [name for name, *_ in found if name.startswith("lag")]


@pytest.mark.slow
def test_the_lag_is_that_of_the_log(tmp_path, monkeypatch, kafka, topic, metrics):
    monkeypatch.setenv("IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("IMGPIPELINE_KAFKA_TOPIC", topic)
    settings = load_settings()
    with open_producer(settings) as producer:
        for offset in range(3):
            producer.send(topic, b"not yet read %d" % offset).get(30)
    site = SiteMetrics(metrics.store, settings, lambda: datetime.now(UTC) + timedelta(minutes=10))
    found = scraped(site)
    assert found["part_up", "log"] == 1
    assert found["lag_offsets", "0", topic] == 3
    assert 590 < found["lag_seconds", "0", topic] < 700
    write_chain(site.store, frames(0, 3), chain=read_log(settings)[0].chain)
    found = scraped(site)
    assert (found["lag_offsets", "0", topic], found["lag_seconds", "0", topic]) == (0, 0)


@pytest.mark.slow
def test_the_command_reads_dagster_and_ends_without_complaints(tmp_path, monkeypatch, metrics):
    """DuckDB's binding prints pages when its objects were frozen by the import of Dagster's definitions."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    port = free_port()
    command = [sys.executable, "-m", "imgpipeline.cli", "exporter", "--port", str(port), "--every", "1"]
    exporter = ServerProcess("exporter", command, tmp_path / "exporter.log")
    exporter.start(lambda: exporter.listens_on(port), limit_s=60)

    def shows_runs() -> bool:
        with urlopen(f"http://{LOOPBACK}:{port}/metrics") as page:
            return b'part_up{part="runs"} 1.0' in page.read()

    try:
        wait_until(shows_runs, limit_s=60, what="the part of the runs", interval_s=0.5)
    finally:
        exporter.stop(limit_s=60)
    assert "leaked" not in exporter.log_tail()


@pytest.mark.slow
def test_every_metric_has_a_meaning(metrics):
    write_chain(metrics.store, frames(0, 2))
    names = {name for name, *_ in scraped(metrics) if not name.startswith("detection_")}
    assert names <= METRICS.keys()


def test_a_computation_that_takes_long_is_followed_by_a_longer_rest():
    took_s = iter([1.0, 20.0, 500.0])
    now_s, rests_s = [0.0], []

    class Metrics:
        def refresh(self):
            now_s[0] += next(took_s)

    class Stop:
        def wait(self, rest_s):
            rests_s.append(rest_s)
            return len(rests_s) == 4

    refresh_until(Metrics(), Stop(), 30.0, clock_s=lambda: now_s[0])
    assert rests_s == [30.0, 30.0, 60.0, 120.0]
