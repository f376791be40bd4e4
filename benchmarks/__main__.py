"""Runs all benchmarks in one go on this machine, so that their ratios hold, and prints a table and one JSON document.

    python -m benchmarks [--frames 600] [--segments 300] [--seconds 30] [--json FILE]

Needs the servers of `make servers`. Timings on shared machines are noisy: quote ratios, not seconds.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.detection import measure_detection, measure_latency
from benchmarks.ledger import measure_ledger
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Server


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measure imgpipeline on real servers.")
    parser.add_argument("--frames", type=int, default=600, help="announced frames of 640x360")
    parser.add_argument("--segments", type=int, default=300, help="segments that are put one after the other")
    parser.add_argument("--seconds", type=float, default=30, help="how long frames come steadily")
    parser.add_argument("--json", type=Path, help="file for the results")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        KafkaBroker(Path(folder) / "kafka") as kafka,
        S3Server(Path(folder) / "s3") as s3,
    ):
        results = {
            **measure_detection(kafka, s3.create_bucket("detection"), chosen.frames),
            **measure_latency(kafka, s3.create_bucket("latency"), chosen.seconds),
            **measure_ledger(s3.create_bucket("ledger"), chosen.segments),
        }
    width = max(map(len, results))
    for name, value in results.items():
        sys.stdout.write(f"{name:{width}}  {value:12,.3f}\n")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
