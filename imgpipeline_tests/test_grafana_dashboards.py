"""The dashboards for Grafana: each query runs on the system that it asks, and finds data.

Grafana itself is not run: its variables and macros are replaced here by what its documentation says they become.
"""

import importlib.util
import json
import re
import time
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.defs.recent_runs import read_recent_runs
from imgpipeline.detect.state import DetectionState, write_state
from imgpipeline.lake.quality.audit import audit
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import load_settings
from imgpipeline.stream.connection import open_producer
from imgpipeline.stream.log import read_log, read_logs
from imgpipeline.web.exporter import METRICS, SiteMetrics, serve_site_metrics
from imgpipeline_tests.ledger.samples import NOON, dead_letter, write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.objectstore.stores import fresh_store
from imgpipeline_tests.servers.ports import LOOPBACK
from imgpipeline_tests.servers.prometheus_server import PrometheusServer
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sinks.clickhouse_target import ClickHouseTarget
from imgpipeline_tests.sinks.days import day_number, frames_of, put_day
from imgpipeline_tests.sinks.test_exporting import export

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
GRAFANA = DEPLOY / "grafana"
STORED = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
PROMETHEUS = ("pipeline", "quality", "sources")
DETECTION = {"sensor_timestamp_seconds", "last_commit_timestamp_seconds", "failing_runs", "stopped_partitions"}


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grafana_dashboards", GRAFANA / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in STORED[name]["panels"] if panel["type"] != "row"]


def expressions(name: str) -> list[str]:
    """Return the PromQL of a dashboard."""
    return [target["expr"] for panel in panels(name) for target in panel["targets"]]


def test_the_stored_dashboards_are_those_that_the_program_makes():
    made = generator().dashboards()
    assert sorted(made) == [f"{name}.json" for name in STORED]
    for name, text in made.items():
        assert (GRAFANA / "dashboards" / name).read_text() == text, "run: python deploy/grafana/dashboards.py"


@pytest.mark.parametrize("name", STORED)
def test_a_dashboard_agrees_with_the_schema(name):
    register_default_plugins()
    parsed = Dashboard.from_json(STORED[name])
    assert json.loads(JSONEncoder().encode(parsed)) == STORED[name]


@pytest.mark.parametrize("name", STORED)
def test_panels_have_names_and_places_of_their_own(name):
    titles = [panel["title"] for panel in panels(name)]
    assert len(titles) == len({panel["id"] for panel in panels(name)})
    places = [panel["gridPos"] for panel in STORED[name]["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart_x or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


def test_the_dashboards_show_every_metric_and_no_other():
    text = " ".join(expression for name in PROMETHEUS for expression in expressions(name))
    used = set(re.findall(r"imgpipeline_(\w+)", text))
    assert used == METRICS.keys() | {f"detection_{name}" for name in DETECTION}


def test_provisioning_has_no_secret_and_the_data_sources_of_the_dashboards():
    (sources,) = [yaml.safe_load(path.read_text()) for path in (GRAFANA / "provisioning/datasources").iterdir()]
    kinds = {variable["query"] for board in STORED.values() for variable in board["templating"]["list"][:1]}
    assert {source["type"] for source in sources["datasources"]} == kinds
    secrets = [source["secureJsonData"] for source in sources["datasources"] if "secureJsonData" in source]
    assert secrets == [{"password": "$CLICKHOUSE_PASSWORD"}]


@dg.op
def work(context) -> None:
    if context.has_tag("broken"):
        raise dg.Failure("broken on purpose")


@dg.job(tags={"imgpipeline/work": "tables"})
def build():
    work()


def run_jobs(home: Path) -> None:
    """Run a job that succeeds and one that fails on the Dagster of this home."""
    home.mkdir()
    with dg.DagsterInstance.get() as instance:
        for tags in ({}, {"broken": "yes"}):
            build.execute_in_process(instance=instance, raise_on_error=False, tags=tags)


@pytest.fixture
def target(clickhouse, toxiproxy) -> ClickHouseTarget:
    return ClickHouseTarget(clickhouse, toxiproxy)


@pytest.fixture
def store(request) -> ObjectStore:
    return fresh_store("folder", request)


@pytest.fixture
def metrics(tmp_path, monkeypatch, kafka, topic, target, store) -> SiteMetrics:
    """Those of a site on which everything has happened that has a metric."""
    monkeypatch.setenv("IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setenv("IMGPIPELINE_KAFKA_TOPIC", topic)
    monkeypatch.setenv("IMGPIPELINE_SINKS", f"target={target.config.url}")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    settings = load_settings()
    with open_producer(settings) as producer:
        for offset in range(8):
            producer.send(topic, b"record %d" % offset).get(30)
    lost = account(4, 2, gated=5, dropped={"queue": 2}, failed=1, observed_s=60)
    outcomes = [said(0, NoticeKind.STARTED), shot(1), shot(2), dead_letter(3), lost]
    write_chain(store, outcomes, chain=read_log(settings)[0].chain)
    audit(store, lambda: read_logs(settings).ranges, now=NOON)
    write_state(store, DetectionState(at=NOON, moved_at=NOON))
    export(store, target)
    site = SiteMetrics(store, settings, lambda: NOON + timedelta(minutes=1), read_recent_runs)
    site.refresh()  # Dagster's home is missing: a failure to count
    run_jobs(tmp_path / "dagster")
    site.clock = lambda: NOON + timedelta(minutes=2)
    return site


@pytest.mark.servers
@pytest.mark.slow
def test_prometheus_has_data_for_every_panel(tmp_path, metrics):
    metrics.refresh()
    with (
        serve_site_metrics(metrics, 0, LOOPBACK) as port,
        PrometheusServer(tmp_path / "prometheus", port, DEPLOY / "prometheus/imgpipeline.rules.yaml") as prometheus,
    ):
        scrapes = "count_over_time(imgpipeline_refreshed_timestamp_seconds[5m]) >= 3"
        wait_until(lambda: prometheus.ask("query", query=scrapes)["result"], limit_s=60, what="three scrapes")
        now_s = time.time()
        span = {"start": f"{now_s - 5}", "end": f"{now_s}", "step": "1"}
        shown = {
            expression: prometheus.ask("query_range", query=expression.replace("$source", ".*"), **span)["result"]
            for name in PROMETHEUS
            for expression in expressions(name)
        }
        labels = prometheus.ask("label/source/values", **{"match[]": "imgpipeline_source_up"})
        rules = prometheus.ask("rules")["groups"][0]["rules"]
    assert [expression for expression, result in shown.items() if not result] == []
    assert [expression for expression in shown if "$" in expression.replace("$source", "")] == []
    assert labels == ["cam-1"]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def as_sent(sql: str, first_s: int, last_s: int) -> str:
    """Return a query as Grafana's plugin for ClickHouse sends it, by its documentation, for an interval of 60 s."""
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= toDateTime({first_s}) AND \1 <= toDateTime({last_s})", sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)", sql)
    return sql.replace("${source:sqlstring}", "'cam-1','cam-2'")


@pytest.mark.servers
@pytest.mark.slow
def test_clickhouse_has_data_for_every_panel_of_the_tables(store, target):
    for number in range(2):
        put_day(store, day_number(number), frames_of(day_number(number), 3 + number))
    export(store, target)
    span = round((NOON - timedelta(days=1)).timestamp()), round((NOON + timedelta(days=2)).timestamp())
    shown = {}
    for panel in panels("tables"):
        (query,) = panel["targets"]
        sql = as_sent(query["rawSql"], *span)
        assert "$" not in sql
        shown[panel["title"]] = json.loads(target.ask(f"{sql} FORMAT JSON"))
        assert shown[panel["title"]]["data"], panel["title"]
        if query["queryType"] == "timeseries":
            types = [column["type"] for column in shown[panel["title"]]["meta"]]
            assert [types[0].partition("(")[0], types[1]] == ["DateTime", "String"]
    first = {title: answer["data"][0] for title, answer in shown.items()}
    assert first["Images"] == {"images": 7}
    assert first["Detections"] == {"detections": 14}
    assert first["Totals by label"]["detections"] == 7
    assert len(shown["Latest images"]["data"]) == 7
    (variable,) = [each for each in STORED["tables"]["templating"]["list"] if each["name"] == "source"]
    assert target.ask(variable["query"]) == b"cam-1\n"
