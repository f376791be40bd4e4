"""`python -m imgpipeline_tests.scale --frames 20000 --days 60`: exits with 1 if anything is lost, doubled or late."""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from imgpipeline_tests.scale.place import open_place
from imgpipeline_tests.scale.trial import Trial


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test, and print its figures."""
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--frames", type=int, default=20_000, help="the backlog")
    parser.add_argument("--days", type=int, default=60, help="days of the backfill")
    parser.add_argument("--minutes", type=float, default=20, help="give up after this time")
    parser.add_argument("--again-within", type=float, default=60, help="seconds until lost work is requested again")
    parser.add_argument("--keep", type=Path, help="a folder for servers and DAGSTER_HOME that stays, to look into")
    chosen = parser.parse_args(arguments)
    with contextlib.ExitStack() as around:
        folder = chosen.keep or Path(around.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        place = around.enter_context(open_place(folder))
        trial = Trial(place, chosen.frames, chosen.days, chosen.minutes * 60, chosen.again_within)
        try:
            trial.run()
        except TimeoutError as error:
            trial.faults.append(f"it gave up: {error}")
        return trial.show()


if __name__ == "__main__":
    sys.exit(main())
