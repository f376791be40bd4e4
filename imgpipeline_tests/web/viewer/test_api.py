"""The API answers with the numbers of the lake, and streams the status of the server."""

import contextlib
import csv
import io
import json
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from imgpipeline import Lake
from imgpipeline.errors import UsageError
from imgpipeline.objectstore import open_store
from imgpipeline.web.viewer.app import run_viewer
from imgpipeline.web.viewer.responses import with_code
from imgpipeline.web.viewer.site import MOST_STREAMS
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.ledger.samples import append, frames, write_chain
from imgpipeline_tests.servers.programs import curl
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.web.viewer.viewing import Viewer, viewing

UNKNOWN = "0" * 32


def test_days_have_frames_and_detections(viewed):
    expected = [
        {"day": str(day), "frames": len(frames), "detections": sum(len(one.detections) for one in frames)}
        for day in (NEXT_DAY, DAY)
        for frames in [[one for one in (*viewed.site.frames, viewed.hostile) if one.day == day]]
    ]
    assert viewed.viewer.json("/api/v1/days")["days"] == expected


def test_label_counts_are_those_of_the_lake(viewed):
    with Lake.open(viewed.settings) as lake:
        expected = lake.label_counts(DAY, by=("hour", "source", "label"))
    rows = viewed.viewer.json("/api/v1/label-counts", day=DAY, by="label,hour,source")["counts"]
    assert [(row["source"], row["label"], row["count"]) for row in rows] == list(
        expected[["source", "label", "count"]].itertuples(index=False, name=None)
    )


def test_tables_come_as_csv_without_formulas(viewed):
    answer = viewed.viewer.get("/api/v1/frames", day=DAY, format="csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert [row["frame_id"] for row in rows] == [one.frame_id for one in viewed.frames]
    counts = viewed.viewer.get("/api/v1/label-counts", day=DAY, by="label", format="csv").text
    assert dict(row[:2] for row in csv.reader(io.StringIO(counts, newline="")))["car"] == "8"


def test_pages_follow_each_other_in_both_directions(viewed):
    expected = [one.frame_id for one in viewed.frames]
    page = viewed.viewer.json("/api/v1/frames", day=DAY, limit=3)
    pages = [page]
    while page["older"]:
        page = viewed.viewer.json("/api/v1/frames", day=DAY, limit=3, after=page["older"])
        pages.append(page)
    assert [one["frame_id"] for page in pages for one in page["frames"]] == expected
    back = [page]
    while page["newer"]:
        page = viewed.viewer.json("/api/v1/frames", day=DAY, limit=3, before=page["newer"])
        back.insert(0, page)
    assert [one["frame_id"] for page in back for one in page["frames"]][-len(expected) + 1 :] == expected[1:]
    assert page["newer"] is None


def test_a_number_is_the_sum_of_its_frames_detections(viewed):
    counts = viewed.viewer.json("/api/v1/label-counts", day=DAY, by="label,hour,source")["counts"]
    for row in counts:
        hour = int(row["hour"][11:13])
        page = viewed.viewer.json("/api/v1/frames", day=DAY, label=row["label"], hour=hour, source=row["source"])
        boxes = Counter(box["label"] for one in page["frames"] for box in one["boxes"])
        assert page["number"] == page["detections"] == boxes[row["label"]] == row["count"]


def test_a_frame_is_traced_to_its_record_and_to_the_numbers_that_count_it(viewed):
    one = viewed.site.frames[2]
    lineage = viewed.viewer.json(f"/api/v1/frames/{DAY}/{one.frame_id}/lineage")
    assert (lineage["topic"], lineage["partition"], lineage["offset"]) == (one.topic, one.partition, one.offset)
    assert lineage["segment"]["start"] <= one.offset < lineage["segment"]["end"]
    assert lineage["segment"]["run_id"] == "run-1"
    for number in lineage["numbers"]:
        found = viewed.viewer.json("/api/v1/frames", day=DAY, **{n: number[n] for n in ("label", "hour", "source")})
        assert found["number"] == number["count"]
        assert one.frame_id in [each["frame_id"] for each in found["frames"]]
    assert Counter({n["label"]: n["of_frame"] for n in lineage["numbers"]}) == Counter(f.label for f in one.detections)


def test_explain_is_that_of_the_lake(viewed):
    found = viewed.viewer.json("/api/v1/explain", day=DAY, label="car", hour=7)
    with Lake.open(viewed.settings) as lake:
        expected = lake.explain(DAY, "car", hour=7)
    assert (found["count"], found["frames"]) == (expected.count, expected.frames)
    assert [one["segment"] for one in found["detections"]] == [one.segment for one in expected.detections]


def test_sources_are_those_of_the_last_30_days(viewed):
    """The frames of the store are older than that."""
    assert viewed.viewer.json("/api/v1/sources") == {"sources": []}


def test_an_unchanged_response_is_not_sent_again(viewed):
    frame = f"frames/{DAY}/{viewed.site.frames[0].frame_id}"
    for name in ("days", f"frames?day={DAY}", "label-counts?format=csv", f"{frame}/image", f"{frame}/thumbnail"):
        path = f"/api/v1/{name}"
        first = viewed.viewer.get(path)
        again = viewed.viewer.http.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


def test_only_reading_is_possible_and_head_does_not_open_the_endless_stream_of_changes(viewed):
    assert viewed.viewer.http.post("/api/v1/frames").status_code == 405
    assert viewed.viewer.http.head("/api/v1/changes").status_code == 405


def test_the_api_is_described(viewed):
    described = viewed.viewer.json("/openapi.json")["paths"]
    assert {"/api/v1/days", "/api/v1/frames", "/api/v1/frames/{day}/{frame_id}/lineage"} <= set(described)
    shown = viewed.viewer.get("/docs").text
    assert all(path in shown for path in described)


CHANGES = "/api/v1/changes"


def statuses(lines: Iterator[str]) -> Iterator[Any]:
    """Yield the documents of the events."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.medium
def test_a_client_gets_the_status_at_once_and_at_each_segment_until_the_server_stops(folder):
    chain = write_chain(open_store(folder), frames(0, 3))
    server = contextlib.ExitStack()
    viewer = server.enter_context(viewing(folder))
    with server, httpx.stream("GET", viewer.http.base_url.join(CHANGES), timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = statuses(answer.iter_lines())
        first = next(told)
        assert first["revision"] > 0
        append(chain, frames(3, 5, date(2026, 1, 9)))
        later = next(one for one in told if one["revision"] > first["revision"])
        assert (later["problem"], later["snapshot"] > first["snapshot"]) == (None, True)
        assert viewer.json("/api/v1/frames")["matching"] == 5
        assert viewer.status()["snapshot"][:19].replace("T", " ") in viewer.get("/").text
        server.close()
        assert list(told) == []  # a stream that is cut off raises


@pytest.mark.medium
def test_the_number_of_streams_is_limited_and_a_client_that_leaves_frees_its_place(folder):
    write_chain(open_store(folder), frames(0, 3))
    with viewing(folder) as viewer, contextlib.ExitStack() as others:
        with viewer.http.stream("GET", CHANGES) as leaving:
            assert leaving.status_code == 200
            for _ in range(MOST_STREAMS - 1):
                assert others.enter_context(viewer.http.stream("GET", CHANGES)).status_code == 200
            refused = viewer.get(CHANGES)
            assert (refused.status_code, "/api/v1/status" in refused.text) == (503, True)
            assert viewer.get("/live").status_code == 200
        wait_until(lambda: is_told(viewer), limit_s=60, what="the place of the client that left")


def is_told(viewer: Viewer) -> bool:
    with viewer.http.stream("GET", CHANGES) as answer:
        return answer.status_code == 200


PAGE = Path(__file__).parents[3] / "docs" / "api.md"
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.medium
def test_each_block_runs_and_its_files_hold_what_it_says(viewed, tmp_path):
    curl()
    first, *blocks = BLOCKS
    assert len(blocks) > 8
    setting = first.replace("http://127.0.0.1:8050", str(viewed.viewer.http.base_url).rstrip("/"))
    assert setting != first
    for block in blocks:
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", setting + block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr}"
    with pa.ipc.open_stream(tmp_path / "frames.arrows") as stream:
        table = stream.read_all()
    listed = viewed.viewer.json("/api/v1/frames", **{"from": DAY, "to": "2026-01-10", "limit": 1000})
    assert table["frame_id"].to_pylist() == [one["frame_id"] for one in listed["frames"]]
    assert "boxes" not in table.column_names


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "cameras.example"])
def test_an_address_that_other_machines_reach_is_refused(folder, host):
    with pytest.raises(UsageError, match=r"Anyone who can reach .* no API key") as refused:
        run_viewer(folder, host, 8050, threading.Event())
    assert "ssh -L 8050:127.0.0.1:8050" in str(refused.value)


def test_a_foreign_host_name_is_refused(viewed):
    assert viewed.viewer.http.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_every_answer_forbids_foreign_and_inline_scripts(viewed):
    for path in ["/", "/review", "/nothing", "/api/v1/days", "/static/viewer.js", f"/review?day={DAY}"]:
        headers = viewed.viewer.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_head_answers_as_get_without_a_body(viewed):
    for path in ["/", f"/review?day={DAY}", "/api/v1/days", "/alerts/1/images/0", "/static/viewer.css", "/nothing"]:
        full, head = viewed.viewer.get(path), viewed.viewer.http.head(path)
        assert (head.status_code, head.content) == (full.status_code, b"")
        assert {**head.headers, "date": ""} == {**full.headers, "date": ""}


def test_no_page_has_inline_scripts_styles_or_foreign_addresses(viewed):
    for path in ["/", f"/review?day={DAY}", "/docs", "/nothing"]:
        page = viewed.viewer.get(path).text
        assert "<style" not in page
        assert " style=" not in page
        assert " onerror=" not in page.replace("onerror=&#34;", "")
        assert "<script>" not in page
        assert "//" not in page.replace("image/svg+xml", "").split("<main", 1)[0].split("<body", 1)[0]


def test_backticks_become_code_and_everything_else_is_escaped():
    assert with_code("see `/docs` & <b>") == "see <code>/docs</code> &amp; &lt;b&gt;"
    assert with_code("`a<b`, `open") == "<code>a&lt;b</code>, open"
