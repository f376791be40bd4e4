"""What was measured of the batch side, as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.table import Table, at_least, at_most

_HADOOP = "Hadoop Streaming"
_COSTS = ("whole, s", "CPU, s", "peak, MiB")
Row = Mapping[str, Any]


def batch_tables(part: Mapping[str, Any]) -> list[Table]:
    """Makes the tables of the batch side.

    Args:
        part: What `measure_batch` returned.
    """
    return [
        _against_hadoop(part),
        _one_a_file(part),
        _day(part),
        _detections(part),
        _growth(part),
    ]


def _cost(row: Row) -> tuple[str, ...]:
    return f"{row['whole_s']:.2f}", f"{row['cpu_s']:.1f}", f"{row['peak_mib']:,.0f}"


def _find(among: Sequence[Row], who: str, **more: Any) -> Row:
    return next(row for row in among if row["who"] == who and all(row[name] == value for name, value in more.items()))


def _against_hadoop(part: Mapping[str, Any]) -> Table:
    hadoop = _find(part["documents"], _HADOOP)["whole_s"]
    goals = {"ours, JSON lines": 12.0}
    rows = [
        (
            row["who"],
            *_cost(row),
            f"{hadoop / row['whole_s']:.1f}",
            _goal(hadoop / row["whole_s"], goals.get(row["who"])),
        )
        for row in part["documents"]
    ]
    stored = {name: _find(part["day"], name, where="folder") for name in ("label_counts", "label_timestamps")}
    built = _find(part["day"], "frames and detections", where="folder")
    summed = {name: built[name] + stored["label_counts"][name] for name in ("whole_s", "cpu_s")}
    all_of_it = {**summed, "peak_mib": max(built["peak_mib"], stored["label_counts"]["peak_mib"])}
    more = [("ours, frames, detections and label_counts written", all_of_it, 4.0)]
    more += [(f"ours, {name} of stored detections", row, 50.0) for name, row in stored.items()]
    for who, row, goal in more:
        ratio = hadoop / row["whole_s"]
        rows.append((who, *_cost(row), f"{ratio:.1f}", _goal(ratio, goal)))
    caption = f"label@hour of {part['frames']:,} documents, {part['lines_bytes'] / 1e6:,.0f} MB of JSON lines:"
    return Table(("who", *_COSTS, "times Hadoop", "goal"), tuple(rows), caption)


def _goal(value: float, goal: float | None) -> str:
    return "none" if goal is None else at_least(value, goal)


def _one_a_file(part: Mapping[str, Any]) -> Table:
    hadoop = _find(part["one_a_file"], _HADOOP)["whole_s"]
    rows = [
        (row["who"], *_cost(row), f"{(ratio := hadoop / row['whole_s']):.1f}",
         _goal(ratio, 50.0 if row["who"] == "ours" else None))
        for row in part["one_a_file"]
    ]  # fmt: skip
    caption = f"label@hour of {part['files']} documents, one a file:"
    return Table(("who", *_COSTS, "times Hadoop", "goal"), tuple(rows), caption)


def _day(part: Mapping[str, Any]) -> Table:
    rows = []
    for row in part["day"]:
        share, goal = "", "none"
        if row["who"] == "frames and detections":
            ratio = _find(part["day"], "bare DuckDB", where=row["where"])["work_s"] / row["work_s"]
            share, goal = f"{ratio:.2f}", _goal(ratio, 0.5 if row["where"] == "folder" else None)
        work = "" if row["work_s"] is None else f"{row['work_s']:.2f}"
        rows.append((row["who"], row["where"], work, *_cost(row), share, goal))
    columns = ("what", "store", "work alone, s", *_COSTS, "share of bare DuckDB's speed", "goal")
    return Table(columns, tuple(rows), f"A day of {part['frames']:,} frames out of its segments:")


def _detections(part: Mapping[str, Any]) -> Table:
    asked = {"count": "counts", "times": "counts and sorted times", "all": "all of label_counts"}
    most = max(row["rows"] for row in part["detections"])
    rows = []
    for row in part["detections"]:
        polars = _find(part["detections"], "polars", question=row["question"], rows=row["rows"])
        ratio, goal = row["work_s"] / polars["work_s"], "none"
        if row["who"] == "ours" and (row["question"], row["rows"]) == ("count", most):
            goal = at_most(ratio, 1.2, "≤ 1.2")
        work = f"{1000 * row['work_s']:,.0f}"
        rows.append((asked[row["question"]], f"{row['rows']:,}", row["who"], work, f"{row['peak_mib']:,.0f}",
                     f"{ratio:.2f}", goal))  # fmt: skip
    columns = ("answer", "rows", "who", "work alone, ms", "peak, MiB", "times polars' time", "goal")
    return Table(columns, tuple(rows), "label@hour of detections in Parquet:")


def _growth(part: Mapping[str, Any]) -> Table:
    rows = [(f"{row['documents']:,}", row["who"], *_cost(row)) for row in part["growth"]]
    return Table(("documents", "who", *_COSTS), tuple(rows), "Growth of label@hour of JSON lines:")
