"""`Lake` answers what pandas counts in the stored frames, and what the commands print."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from imgpipeline import Lake
from imgpipeline.errors import ConfigurationError, PermanentError
from imgpipeline.lake.schema.tables import DETECTIONS, FRAMES
from imgpipeline.objectstore import open_store
from imgpipeline.settings import load_settings
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY, ORANGE_RGB, UNKNOWN_DAY
from imgpipeline_tests.ledger.samples import append, writer

SPAN = {"from_day": DAY, "to_day": "2026-01-10"}
IN_KOLKATA = {"timezone": "Asia/Kolkata"}
IN_DAY = {"day": "2026-01-09"}
Rows = Callable[[pd.DataFrame], pd.Series]
Command = Callable[..., str]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        pytest.param({}, lambda f: f["day"] == NEXT_DAY, id="latest-day"),
        pytest.param({"day": DAY}, lambda f: f["day"] == DAY, id="date"),
        pytest.param(IN_DAY, lambda f: f["day"] == DAY, id="text"),
        pytest.param({"day": pd.Timestamp(DAY)}, lambda f: f["day"] == DAY, id="timestamp"),
        pytest.param(SPAN, lambda f: f["day"] >= DAY, id="span"),
        pytest.param({"from_day": NEXT_DAY}, lambda f: f["day"] == NEXT_DAY, id="from"),
        pytest.param({"from_day": UNKNOWN_DAY}, lambda f: f["day"] > NEXT_DAY, id="empty-span"),
        pytest.param({**SPAN, "source": "gate"}, lambda f: f["source"] == "gate", id="source"),
        pytest.param({**IN_DAY, "source": "nobody's"}, lambda f: f["source"] == "nobody's", id="no-source"),
    ],
)
def test_frames_and_detections_are_the_stored_ones(site, asked, chosen):
    lake, frames, found = Lake.open(), site.frame_table(), site.detection_table()
    table = lake.frames(**asked)
    assert list(table["frame_id"]) == list(frames[chosen(frames)]["frame_id"])
    assert [sorted(labels) for labels in table["detections"]] == [sorted(s) for s in frames[chosen(frames)]["labels"]]
    assert list(table.columns) == [*FRAMES.names, "file", "detections"]
    table, expected = lake.detections(**asked), found[chosen(found)]
    assert list(table.columns) == list(DETECTIONS.names)
    columns = ["frame_id", "detection_number", "label", "confidence"]
    assert list(table[columns].itertuples(index=False)) == list(expected[columns].itertuples(index=False))


@pytest.mark.medium
def test_frames_by_label_status_and_limit(folder_site):
    lake, frames = Lake.open(), folder_site.frame_table()
    with_dog = frames[frames["labels"].map(lambda labels: "dog" in labels)]
    assert list(lake.frames(**SPAN, label="dog")["frame_id"]) == list(with_dog["frame_id"])
    assert list(lake.frames(**SPAN, label="dog", limit=2)["frame_id"]) == list(with_dog["frame_id"][:2])
    [gated] = lake.frames(**IN_DAY, status="gated").to_dict("records")
    assert (gated["file"], gated["detections"], gated["gate_reason"]) == ("0005.png", {}, "dark")
    assert lake.frames(status="gated")["day"].unique() == [pd.Timestamp(DAY)], "the latest day with such a frame"


@pytest.mark.medium
def test_detections_by_label_confidence_and_limit(folder_site):
    lake, found = Lake.open(), folder_site.detection_table()
    sure = found[found["confidence"] >= 0.64]
    assert list(lake.detections(**SPAN, min_confidence=0.64)["label"]) == list(sure["label"])
    dogs = found[found["label"] == "dog"]
    assert list(lake.detections(**SPAN, label="dog", limit=1)["frame_id"]) == list(dogs["frame_id"][:1])


@pytest.mark.medium
def test_frames_are_those_of_the_command(site, command):
    for options, asked in (((), {}), (("--from", "2026-01-09", "--label", "dog"), {"from_day": DAY, "label": "dog"})):
        shown = json.loads(command("frames", "list", *options, "--json"))
        rows = Lake.open().frames(**asked)[list(shown[0])].to_dict("records")
        assert [as_json(row) for row in rows] == shown


@pytest.mark.medium
def test_counts_are_those_of_pandas(site):
    found = site.detection_table()
    lake = Lake.open()
    hours = found["timestamp"].dt.floor("h")
    counts = lake.label_counts(**SPAN)
    assert counted(counts, ["hour", "label"]) == found.groupby([hours, "label"]).size().to_dict()
    by_source = lake.label_counts(**SPAN, by=["source", "label"], label=["car", "dog"])
    chosen = found[found["label"].isin(["car", "dog"])]
    assert counted(by_source, ["source", "label"]) == chosen.groupby(["source", "label"]).size().to_dict()
    totals = lake.label_totals(DAY, source="gate")
    of_day = found[(found["day"] == DAY) & (found["source"] == "gate")]
    assert counted(totals, ["label"], one=True) == of_day["label"].value_counts().to_dict()


@pytest.mark.medium
def test_days_and_hours_of_a_time_zone_are_those_of_pandas(folder_site):
    found = folder_site.detection_table()
    local = found["timestamp"].dt.tz_convert("Asia/Kolkata")
    of_day = found[local.dt.date == NEXT_DAY]
    counts = Lake.open().label_counts(NEXT_DAY, by="hour", timezone="Asia/Kolkata")
    local_hours = of_day["timestamp"].dt.tz_convert("Asia/Kolkata").dt.floor("h")
    assert counted(counts, ["hour"], one=True) == of_day.groupby(local_hours).size().to_dict()
    assert str(counts["hour"].dt.tz) == "Asia/Kolkata"
    assert Lake.open().label_counts(date(2026, 1, 8), timezone="America/Lima").empty, "next to a day that is known"


@pytest.mark.slow
@pytest.mark.medium
def test_summaries_are_those_of_the_command(folder_site, command):
    for name in ("label-counts", "label-totals", "hours", "sizes", "sources"):
        for options, asked in ((("--day", "2026-01-09"), IN_DAY), (("--timezone", "Asia/Kolkata"), IN_KOLKATA)):
            shown = json.loads(command("summary", name, *options, "--json"))
            table = getattr(Lake.open().arrow, name.replace("-", "_"))(**asked)
            assert [as_json(row, local="--timezone" in options) for row in table.to_pylist()] == shown != [], name


@pytest.mark.medium
def test_sql_is_that_of_the_command(site, command):
    query = 'SELECT source, count(*) AS n, min("timestamp") AS first FROM frames GROUP BY source ORDER BY source'
    for options, asked in (((), {}), (("--day", "2026-01-10"), {"day": NEXT_DAY})):
        shown = json.loads(command("query", query, *options, "--json"))
        assert [as_json(row) for row in Lake.open().arrow.sql(query, **asked).to_pylist()] == shown
    assert list(Lake.open().sql("SELECT code FROM dead_letters")["code"]) == ["DECODE_FAILED"]


def test_sql_columns_have_unique_names_and_plain_numbers(folder_site):
    table = Lake.open().sql("SELECT sum(size_bytes) AS n, count(*) AS n, max(frame_number) AS last FROM frames")
    assert list(table.columns) == ["n", "n_1", "last"]
    assert [str(kind) for kind in table.dtypes] == ["Int64"] * 3
    assert table["n"][0] == sum(frame.size_bytes or 0 for frame in folder_site.frames)


def test_a_session_answers_several_queries_about_one_moment(folder_site):
    with Lake.open().session(day=DAY) as session:
        [(frames,)] = session.query("SELECT count(*) FROM frames").rows
        assert session.arrow("SELECT day FROM frames").num_rows == frames == 9


def test_sql_can_only_read_the_tables(folder_site):
    """Python's variables are no tables; `REFUSED` in the tests of query sessions has every other case."""
    with pytest.raises(ConfigurationError):
        Lake.open().sql("SELECT * FROM folder_site")


@pytest.mark.medium
def test_an_explanation_is_that_of_the_command(site, command):
    explanation = Lake.open().explain(DAY, "car", hour=7)
    shown = json.loads(command("explain", "--day", "2026-01-09", "--hour", "7", "--label", "car", "--json"))
    assert explanation.count == shown["count"] == len(explanation.detections) == 4
    assert [one.frame_id for one in explanation.detections] == [row["frame_id"] for row in shown["detections"]]
    assert [one.key for one in explanation.segments] == [row["key"] for row in shown["segments"]]


@pytest.mark.medium
def test_images_are_rgb_and_previews_have_boxes(site):
    lake = Lake.open()
    row = lake.frames(DAY, label="dog", limit=1).iloc[0]
    image = lake.image(row["day"], row["frame_id"])
    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((48, 64, 3), np.dtype(np.uint8), True)
    assert tuple(image[0, 0]) == ORANGE_RGB
    preview = lake.preview("2026-01-09", row["frame_id"])
    lower_edge = preview[32, 10:41]
    assert (lower_edge != ORANGE_RGB).any(axis=1).all(), "the box ends at 12 + 20 pixels from the top"
    assert (preview[33:] == image[33:]).all()
    assert (lake.preview(DAY, row["frame_id"], min_confidence=0.95) == image).all()


@pytest.mark.medium
def test_an_image_that_is_gone_says_what_to_do(own_site):
    frame = own_site.frames[0]
    open_store(load_settings()).delete(frame.source_image_path)
    with pytest.raises(PermanentError, match=r"There is no image at images/gate.* Next: restore"):
        Lake.open().image(frame.day, frame.frame_id)


@pytest.mark.slow
def test_types_do_not_depend_on_the_rows(folder_site):
    """For an empty table, a table with a column that is always NULL, and a full one."""
    lake = Lake.open()
    empty = {"from_day": UNKNOWN_DAY}
    for table in ("frames", "detections", "label_counts", "label_totals", "hours", "sizes", "sources"):
        ask, of_arrow = getattr(lake, table), getattr(lake.arrow, table)
        assert len(ask(**empty)) == 0 < len(ask(**SPAN))
        assert ask(**empty).dtypes.to_dict() == ask(**SPAN).dtypes.to_dict(), table
        assert of_arrow(**empty).schema == of_arrow(**SPAN).schema, table
    frames = lake.frames(**SPAN).dtypes
    assert [str(frames[name]) for name in ("timestamp", "frame_number", "day")] == [
        *("datetime64[us, UTC]", "Int64", "datetime64[ms]"),
    ]
    assert lake.arrow.frames(**IN_DAY).schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert lake.sql("SELECT frame_number FROM frames LIMIT 0").dtypes.to_dict() == {"frame_number": pd.Int64Dtype()}


WRONG_CALLS: dict[str, tuple[Callable[[Lake], object], str]] = {
    "day": (lambda lake: lake.frames(UNKNOWN_DAY), "nothing of 2026-01-12. Next: .*2026-01-09, 2026-01-10"),
    "sql-day": (lambda lake: lake.sql("SELECT 1", day="2026-01-12"), "nothing of 2026-01-12"),
    "local-day": (lambda lake: lake.sizes("2026-01-12", timezone="Asia/Tokyo"), "nothing of 2026-01-12"),
    "image-day": (lambda lake: lake.image("2026-01-12", "x"), "nothing of 2026-01-12. Next: .*2026-01-10"),
    "frame": (lambda lake: lake.image(DAY, "it's"), 'no frame "it\'s". Next: take a frame_id'),
    "preview": (lambda lake: lake.preview(DAY, "nope"), "no frame 'nope'. Next: take a frame_id"),
    "column": (lambda lake: lake.sql("SELECT nope FROM frames"), "(?s)nope.* Next: .*DESCRIBE frames"),
    "own-table": (lambda lake: lake.sql('SELECT nope AS frames FROM "Notices"'), "(?s)nope.* Next: .*DESCRIBE notices"),
    "no-table": (lambda lake: lake.sql("SELECT 1 FROM nope"), "(?s)nope.* Next: .*DESCRIBE frames"),
    "label": (lambda lake: lake.explain(DAY, "cat"), "no cat on 2026-01-09. Next: .*car"),
    "hour": (lambda lake: lake.explain(DAY, "car", hour=24), "hour is 24. Next: "),
    "by": (lambda lake: lake.label_counts(by="colour"), "by is 'colour'. Next: .*source"),
    "no-date": (lambda lake: lake.frames("soon"), "day is 'soon'. Next: .*2026-01-09"),
    "no-from": (lambda lake: lake.frames(from_day="soon"), "from_day is 'soon'"),
    "time": (lambda lake: lake.frames(pd.Timestamp("2026-01-09 08:00")), "day is 2026-01-09 08:00:00"),
    "both": (lambda lake: lake.frames(DAY, to_day=DAY), "day and from_day or to_day are both"),
    "swapped": (lambda lake: lake.frames(from_day=NEXT_DAY, to_day=DAY), "from_day .* is later than"),
    "limit": (lambda lake: lake.frames(limit=0), "limit is 0"),
    "status": (lambda lake: lake.frames(status="lost"), "status is 'lost'. Next: .*processed, gated"),
    "timezone": (lambda lake: lake.hours(timezone="Asia/Kolkatta"), "Asia/Kolkata"),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_errors_name_the_problem_and_the_next_step(folder_site, name):
    ask, said = WRONG_CALLS[name]
    with pytest.raises(ConfigurationError, match=said):
        ask(Lake.open())


@pytest.mark.medium
def test_more_than_one_model_in_a_day_is_a_warning(own_site):
    assert Lake.open().label_counts(DAY).shape[0] > 0
    store = open_store(load_settings())

    other = replace(own_site.frames[0], offset=14, frame_id="ff" * 16, confidence_threshold=0.7)
    append(writer(store), [other])
    with pytest.warns(UserWarning, match="On 2026-01-09 more than one model or threshold was in use") as caught:
        Lake.open().label_counts(DAY)
    assert caught[0].filename == __file__


def test_the_store_comes_from_settings_a_url_a_folder_or_the_environment(folder_site, monkeypatch, tmp_path):
    url = folder_site.environment["IMGPIPELINE_STORE_URL"]
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", "s3://nowhere/at/all")
    folder = Path(url.removeprefix("file://"))
    for store in (load_settings(store_url=url), url, folder, Path(os.path.relpath(folder))):
        assert Lake.open(store).days() == [DAY, NEXT_DAY]
    monkeypatch.delenv("IMGPIPELINE_STORE_URL")
    (tmp_path / ".env").write_text(f"IMGPIPELINE_STORE_URL={url}\nIMGPIPELINE_TIMEZONE=Asia/Kolkata\n")
    lake = Lake.open()
    assert repr(lake) == f"<Lake {url}, time zone Asia/Kolkata>"
    assert str(lake.label_counts()["hour"].dt.tz) == "Asia/Kolkata"


def test_a_folder_that_does_not_exist_is_not_an_empty_store(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no store at file:.*typo. Next: give the URL or folder"):
        Lake.open(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()
    with pytest.raises(ConfigurationError, match="expected s3://bucket/prefix or file:///folder"):
        Lake.open("store")


def test_a_closed_lake_says_how_to_open_it(folder_site):
    with Lake.open() as lake:
        assert lake.days() == [DAY, NEXT_DAY]
    assert repr(lake).endswith("closed>")
    for ask in (lake.days, lake.frames, lake.hours, lambda: lake.sql("SELECT 1"), lambda: lake.image(DAY, "x")):
        with pytest.raises(ConfigurationError, match=r"is closed. Next: open it with Lake.open\(\)"):
            ask()


def counted(table: pd.DataFrame, names: list[str], *, one: bool = False) -> dict[Any, int]:
    keys = table[names[0]] if one else zip(*(table[name] for name in names), strict=True)
    return dict(zip(keys, table["count"].astype(int), strict=True))


def as_json(row: dict[str, Any], *, local: bool = False) -> dict[str, Any]:
    """Return a row as the commands print it."""
    return {name: _plain(value, local) for name, value in row.items()}


def _plain(value: Any, local: bool) -> Any:
    if isinstance(value, datetime):
        return value.isoformat() if local else f"{value:%Y-%m-%dT%H:%M:%S.%f}Z"
    if isinstance(value, date):
        return value.isoformat()
    return None if value is pd.NA else value
