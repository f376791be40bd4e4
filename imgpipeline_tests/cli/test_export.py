"""`imgpipeline export duckdb` writes what `imgpipeline query` answers, from a folder and from S3."""

import duckdb
import pytest

from imgpipeline.lake.schema import ALL
from imgpipeline_tests.cli.command import run
from imgpipeline_tests.cli.samples import CAR, DOG, NEXT_DAY, OpenStore, seen
from imgpipeline_tests.ledger.samples import dead_letter, write_chain
from imgpipeline_tests.servers.s3_server import S3Bucket

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
