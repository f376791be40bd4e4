"""The probe says in a few seconds whether the servers answer and the sources deliver."""

from datetime import UTC, datetime
from pathlib import Path

from imgpipeline.sources.board import Board
from imgpipeline.sources.metrics import serve_metrics
from imgpipeline.sources.protocol import SourceKind, StatusChange
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.servers.ports import free_port

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)


def test_a_site_whose_servers_answer_is_healthy(site: dict[str, str], tmp_path: Path):
    ended = run("health", "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()) == (0, {"healthy": True, "problems": {}})


def test_a_server_that_does_not_answer_is_named(site: dict[str, str], tmp_path: Path):
    away = {**site, "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}"}
    ended = run("health", "--json", env=away, cwd=tmp_path)
    assert ended.status == 1
    assert "Kafka" in ended.json()["problems"]


def test_a_source_of_the_supervisor_that_is_offline_is_named(site: dict[str, str], tmp_path: Path):
    board = Board()
    board.watch("gate", SourceKind.LIVE).captured(StatusChange(online=False, reason="timed out", at=NOON))
    with serve_metrics(board, 0) as port:
        ended = run("health", "--supervisor", str(port), "--json", env=site, cwd=tmp_path)
    assert (ended.status, ended.json()["problems"]) == (1, {"source gate": "timed out"})


def test_a_supervisor_that_does_not_answer_is_a_problem(site: dict[str, str], tmp_path: Path):
    port = free_port()
    ended = run("health", "--supervisor", str(port), env=site, cwd=tmp_path)
    assert ended.status == 1
    assert f"no answer on port {port}" in ended.stderr
