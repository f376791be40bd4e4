"""Whether two contenders gave the same answer."""

from hashlib import sha256
from pathlib import Path

import duckdb

_COMPARED = {
    "count": "label, hour, count",
    "times": "source, label, hour, count, timestamps",
    "all": "source, label, hour, count, distinct_frames, first_seen, last_seen, min_confidence, max_confidence",
}


def digest_of_lines(path: Path) -> str:
    """Returns a hash of what `label-hour` wrote, a file or Hadoop's folder; the order of the times does not matter."""
    digest = sha256()
    for part in sorted(path.glob("part-*")) if path.is_dir() else [path]:
        with part.open("rb") as lines:
            for line in lines:
                key, count, times = line.rstrip(b"\n").split(b"\t")
                digest.update(b"%s\t%s\t%s\n" % (key, count, b", ".join(sorted(times[1:-1].split(b", ")))))
    return digest.hexdigest()


def sum_of_counts(path: Path) -> int:
    """Returns the sum of all counts that `label-hour` wrote."""
    with path.open("rb") as lines:
        return sum(int(line.split(b"\t", 2)[1]) for line in lines)


def same_table(one: Path, other: Path, question: str) -> bool:
    """Tells whether two Parquet files hold the same rows, as far as the question goes."""
    columns = _COMPARED[question]
    first, second = (f"SELECT {columns} FROM read_parquet('{path}')" for path in (one, other))  # noqa: S608 - own names
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE a AS {first}")
        connection.execute(f"CREATE TABLE b AS {second}")
        rows = connection.execute(
            "SELECT (SELECT count(*) FROM a) > 0 AND NOT EXISTS (FROM a EXCEPT ALL FROM b) "
            "AND NOT EXISTS (FROM b EXCEPT ALL FROM a)"
        ).fetchone()
    return bool(rows and rows[0])
