"""`imgpipeline export duckdb` writes what `imgpipeline query` answers, from a folder and from S3."""

import json

import duckdb
import pytest

from imgpipeline.lake.schema import ALL
from imgpipeline_tests.cli.command import interrupt, run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, OpenStore, seen
from imgpipeline_tests.ledger.samples import append, dead_letter, write_chain, writer
from imgpipeline_tests.servers.s3_server import S3Bucket
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.medium

_COUNTS = " UNION ALL ".join(f"SELECT '{table.name}' AS name, count(*) AS rows FROM {table.name}" for table in ALL)  # noqa: S608 - own names
_NUMBERS = "SELECT hour, source, from_bytes, below_bytes, frames FROM frame_sizes ORDER BY ALL"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.servers)])
def filled(request: pytest.FixtureRequest, store_of: OpenStore) -> dict[str, str]:
    """A site whose two days were never built."""
    if request.param == "s3":
        bucket: S3Bucket = request.getfixturevalue("bucket")
        site = {**bucket.environment(), "IMGPIPELINE_STORE_URL": f"{bucket.url}/site"}
    else:
        site = request.getfixturevalue("folder_site")
    write_chain(store_of(site), [seen(0, CAR, DOG), seen(1, CAR), dead_letter(2)], [seen(3, DOG, day=NEXT_DAY)])
    return site


def test_the_file_answers_as_query_does(filled, tmp_path):
    ended = run("export", "duckdb", "lake.duckdb", "--json", env=filled, cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "")
    told = ended.json()
    counted = run("query", _COUNTS, "--json", env=filled, cwd=tmp_path).json()
    assert told["rows"] == {row["name"]: row["rows"] for row in counted}
    assert told["days"] == ["2026-01-09", "2026-01-10"]
    assert told["size_bytes"] == (tmp_path / "lake.duckdb").stat().st_size
    answered = run("query", _NUMBERS, "--json", env=filled, cwd=tmp_path).json()
    with duckdb.connect(tmp_path / "lake.duckdb", read_only=True) as connection:
        rows = connection.execute(_NUMBERS).fetchall()
        [(url,)] = connection.execute("SELECT store_url FROM about").fetchall()
    assert [row[1:] for row in rows] == [tuple(row.values())[1:] for row in answered]
    assert url == filled["IMGPIPELINE_STORE_URL"]


def test_a_span_is_exported_and_a_file_replaced_on_demand_only(filled, tmp_path):
    ended = run("export", "duckdb", "lake.duckdb", "--from", "2026-01-10", env=filled, cwd=tmp_path)
    assert ended.status == 0
    assert "frame_latency" in ended.stdout
    assert ended.stderr.startswith("lake.duckdb: 1 day, ")
    refused = run("export", "duckdb", "lake.duckdb", env=filled, cwd=tmp_path)
    assert (refused.status, refused.stdout) == (1, "")
    assert "--replace" in refused.stderr
    empty = run("export", "duckdb", "none.duckdb", "--day", "2025-05-05", env=filled, cwd=tmp_path)
    assert "There is no data to export (2025-05-05).\nNext: name days in the ledger: 2026-01-09, 2026-" in empty.stderr
    assert run("export", "duckdb", "lake.duckdb", "--replace", env=filled, cwd=tmp_path).status == 0
    with duckdb.connect(tmp_path / "lake.duckdb", read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM frames").fetchall() == [(3,)]


def test_classic_documents_are_written_once_and_while_frames_come_until_ctrl_c(filled, store_of, tmp_path):
    target = f"s3://{filled['IMGPIPELINE_STORE_URL'].split('/')[2]}/metadata"
    target = target if filled["IMGPIPELINE_STORE_URL"].startswith("s3") else str(tmp_path / "metadata")
    command = ("export", "metadata", "--layout", "classic", "--to", target)
    ended = run(*command, env=filled, cwd=tmp_path)
    assert (ended.status, ended.stderr) == (
        0, "written: 3; unchanged: 0; without detector: 0\n",
    )  # fmt: skip

    store = store_of({**filled, "IMGPIPELINE_STORE_URL": target if "://" in target else f"file://{target}"})
    assert sorted(info.key for info in store.list_objects()) == ["0.json", "1.json", "3.json"]
    first = json.loads(store.get("0.json"))
    assert [found["label"] for found in first["detections"]] == ["car", "dög"]
    assert first["source_image_path"].endswith("/images/cam-1/0.jpg" if "s3" in target else "images/cam-1/0.jpg")

    ledger = store_of(filled)
    append(writer(ledger), [seen(4, CAR)])

    def is_written() -> None:
        wait_until(lambda: store.head("4.json"), limit_s=60, what="the document of a new frame")

    watched = interrupt(*command, "--watch", env=filled, cwd=tmp_path, when=is_written)
    assert (watched.status, watched.stderr) == (
        130, "written: 1; unchanged: 0; without detector: 0\n",
    )  # fmt: skip

    counted = run("mapreduce", "label-total", "--input", target, "--output", "-", env=filled, cwd=tmp_path)
    assert counted.stdout == "car\t3\ndög\t2\n"
