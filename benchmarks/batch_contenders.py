"""The contenders of the batch benchmarks: `python -m benchmarks.batch_contenders KIND`, the task as JSON on stdin.

Each is that library's honest best on this question, as its documentation advises it: lazy, streaming, reading only the
columns that are asked for. The last line on stdout is `{"result": …}`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

Task = Mapping[str, Any]


def pandas_documents(task: Task) -> dict[str, Any]:
    """label@hour of JSON lines, or of documents one a file, with pandas on Arrow."""
    import pandas as pd  # noqa: PLC0415 - each contender pays for its own imports alone

    source = Path(task["source"])
    if source.is_dir():
        frames = pd.DataFrame([json.loads(path.read_bytes()) for path in sorted(source.iterdir())])
        pairs = frames[["processing_timestamp", "detections"]].explode("detections").dropna()
        times, labels = pairs["processing_timestamp"], pairs["detections"].str["label"]
    else:
        frames = pd.read_json(source, lines=True, engine="pyarrow", dtype_backend="pyarrow")
        found = frames["detections"].list.flatten()
        labels = found.struct.field("label")
        times = frames["processing_timestamp"].loc[found.index]
        del frames, found
    seconds = times.astype("str").str.slice(0, 19).str.replace(" ", "T")
    keys = labels + "@" + seconds.str.slice(0, 10) + " " + seconds.str.slice(11, 13) + ":00"
    grouped = pd.DataFrame({"key": keys, "time": seconds}).groupby("key", sort=True)["time"]
    with Path(task["target"]).open("w", encoding="utf-8") as file:
        file.writelines(f"{key}\t{len(group)}\t[{', '.join(group)}]\n" for key, group in grouped)
    return {}


def polars_documents(task: Task) -> dict[str, Any]:
    """label@hour of JSON lines, or of documents one a file, with polars' streaming engine."""
    import polars as pl  # noqa: PLC0415 - as above

    source = Path(task["source"])
    schema = {"processing_timestamp": pl.String, "detections": pl.List(pl.Struct({"label": pl.String}))}
    time, label = pl.col("time"), pl.col("label")
    (
        pl.scan_ndjson(sorted(source.iterdir()) if source.is_dir() else source, schema=schema)
        .select(
            time=pl.col("processing_timestamp").str.slice(0, 19),
            label=pl.col("detections").list.eval(pl.element().struct.field("label")),
        )
        .explode("label")
        .drop_nulls("label")
        .group_by(label, hour=time.str.slice(0, 13))
        .agg(count=pl.len(), times=time)
        .select(
            key=pl.concat_str(label, pl.lit("@"), pl.col("hour").str.replace("T", " "), pl.lit(":00")),
            count="count",
            times=pl.concat_str(pl.lit("["), pl.col("times").list.join(", "), pl.lit("]")),
        )
        .sort("key")
        .collect(engine="streaming")
        .write_csv(task["target"], separator="\t", include_header=False, quote_style="never")
    )
    return {}


def build_day(task: Task) -> dict[str, Any]:
    """The day tables of a day, out of the ledger."""
    from imgpipeline.contracts.times import utc_now  # noqa: PLC0415 - as above
    from imgpipeline.lake.days.day_tables import rebuild_day  # noqa: PLC0415 - as above
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - as above
    from imgpipeline.settings import load_settings  # noqa: PLC0415 - as above

    store = open_store(load_settings())
    began_s = perf_counter()
    done = rebuild_day(store, date.fromisoformat(task["day"]), force=True, now=utc_now())
    return {"work_s": perf_counter() - began_s, **{table: done.of(table).rows for table in ("frames", "detections")}}


def build_summary(task: Task) -> dict[str, Any]:
    """One summary of a day, out of the stored tables."""
    from imgpipeline.contracts.times import utc_now  # noqa: PLC0415 - as above
    from imgpipeline.lake.days.derived import build  # noqa: PLC0415 - as above
    from imgpipeline.lake.days.summaries import SUMMARIES, DaySummary  # noqa: PLC0415 - as above
    from imgpipeline.objectstore import open_store  # noqa: PLC0415 - as above
    from imgpipeline.settings import load_settings  # noqa: PLC0415 - as above

    settings = load_settings()
    store, day = open_store(settings), date.fromisoformat(task["day"])
    began_s = perf_counter()
    done = build(DaySummary(store, SUMMARIES[task["summary"]], day, settings, utc_now()), force=True)
    return {"work_s": perf_counter() - began_s, "rows": done.manifest.rows}


_BARE_FRAME = (
    "frame_id VARCHAR, source VARCHAR, source_image_path VARCHAR, frame_number BIGINT, timestamp TIMESTAMPTZ, "
    "source_kafka_topic VARCHAR, source_kafka_partition INTEGER, source_kafka_offset BIGINT, "
    "processing_timestamp TIMESTAMPTZ, image_width INTEGER, image_height INTEGER, size_bytes BIGINT, "
    "brightness DOUBLE, sharpness DOUBLE, model_used VARCHAR, model_sha256 VARCHAR, confidence_threshold DOUBLE, "
    "nms_threshold DOUBLE, orientation INTEGER, status VARCHAR, gate_reason VARCHAR, replay_of VARCHAR, "
    "attributes JSON, detections STRUCT(label VARCHAR, class_id INTEGER, confidence DOUBLE, box DOUBLE[])[]"
)


def bare_day(task: Task) -> dict[str, Any]:
    """What a script would do: DuckDB reads the segments' files as JSON and writes two Parquet files. No checks."""
    import duckdb  # noqa: PLC0415 - as above

    target = Path(task["target"])
    began_s = perf_counter()
    files = sorted(str(path) for path in Path(task["source"]).rglob("*.jsonl.zst"))
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE found AS SELECT frame.* FROM read_json($files, format = 'newline_delimited', "  # noqa: S608 - own names
            "records = true, hive_partitioning = false, "
            f"columns = {{frame: 'STRUCT({_BARE_FRAME})'}}) WHERE frame IS NOT NULL",
            {"files": files},
        )
        frames = "SELECT * EXCLUDE (detections) FROM found"
        found = (
            "SELECT frame_id, source, timestamp, source_kafka_topic, source_kafka_partition, source_kafka_offset, "
            "model_used, model_sha256, unnest(detections, recursive := true) FROM found"
        )
        for name, query in (("frames", frames), ("detections", found)):
            connection.execute(f"COPY ({query}) TO '{target / name}.parquet' (FORMAT parquet, COMPRESSION zstd)")
        work_s = perf_counter() - began_s
        rows = connection.execute("SELECT count(*), sum(len(detections))::BIGINT FROM found").fetchone() or (0, 0)
    return {"work_s": work_s, "frames": rows[0], "detections": rows[1]}


_KINDS: dict[str, Callable[[Task], dict[str, Any]]] = {
    kind.__name__: kind for kind in (pandas_documents, polars_documents, build_day, build_summary, bare_day)
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"result": _KINDS[sys.argv[1]](json.load(sys.stdin))}) + "\n")
