"""A day that four processes share with `imgpipeline redetect --shared`, while one of them is killed.

`python -m imgpipeline_tests.scale.redetection --frames 100000` fails if a frame is missing or there twice, or if a part
was made twice. The S3 server's log of requests is the witness of which parts were made, and how often.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import typer

from benchmarks.synthetic_days import SyntheticDay, make_day
from imgpipeline.contracts.keys import redetection_parts_prefix
from imgpipeline.contracts.records import LogRange
from imgpipeline.contracts.times import utc_now
from imgpipeline.lake.days.day_tables import rebuild_day
from imgpipeline.lake.quality.audit import audit
from imgpipeline.objectstore import open_store
from imgpipeline.redetect.frames import FrameToProcess
from imgpipeline.redetect.run import part_key
from imgpipeline.sources.simulator.scene import Scene
from imgpipeline_tests.cli.command import environment
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.redetect.days import live_rows, objects_below, redetected_rows
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.vision.tiny_networks import write_network

MODEL = "tiny"
_PART, _NOTE = ".parquet", ".begun"
_LIMIT_S = 1500.0


@dataclass
class SharedDay:
    """The day and how it is stored."""

    folder: Path
    bucket: S3Bucket
    log: Path
    """Of the server's requests."""
    frames: int
    part_frames: int

    def __post_init__(self) -> None:
        """Put the day into the ledger, build its tables, and write a model that finds one van in each image."""
        van = np.array([[[4, 4, 30, 20, 0.9, 0]]], np.float32)
        self.model = write_network(self.folder / f"{MODEL}.onnx", {"output0": van}, metadata={"names": "['van']"})
        self.store = open_store(s3_settings(self.bucket, store_url=self.bucket.url))
        _, jpeg = cv2.imencode(".jpg", cv2.resize(Scene(3, frames=60).frame(20)[0], (64, 32)))
        self.store.put("images/one.jpg", jpeg.tobytes())
        self.made = SyntheticDay(self.frames, image=("images/one.jpg", jpeg.size))
        self.day = self.made.day
        self.parts = redetection_parts_prefix(MODEL, self.day)
        make_day(self.store, self.made)
        rebuild_day(self.store, self.day, now=utc_now())

    def share(self) -> None:
        """Start the processes, kill the first once a quarter is done, and wait for the others."""
        began_s, quarter = time.monotonic(), self.frames // self.part_frames // 4
        with ExitStack() as running:
            victim, *others = [running.enter_context(self.start()) for _ in range(4)]
            for process in (victim, *others):
                running.callback(process.kill)
            wait_until(
                lambda: str(objects_below(self.store, self.parts)).count(_PART) >= quarter and all(self._of(victim)),
                limit_s=_LIMIT_S, what="a quarter of the parts, one of them by the first process", interval_s=0.2,
            )  # fmt: skip
            victim.kill()
            victim.wait()
            finished, held = self._of(victim)
            ended = [process.communicate(timeout=_LIMIT_S) for process in others]
        took_s = time.monotonic() - began_s
        assert [process.returncode for process in others] == [0] * len(others), ended
        looked_at = [json.loads(said)[0]["looked_at"] for said, _ in ended]
        typer.echo(f"{self.frames} frames in {took_s:.1f} s, {self.frames / took_s:.0f} frames/s, with starts")
        typer.echo(f"parts that the killed process had made: {len(finished)}, begun: {len(held)}; others: {looked_at}")
        assert sum(looked_at) <= self.frames - len(finished) * self.part_frames

    def prove(self) -> None:
        """Compare tables, parts and ledger with the frames of the day."""
        live = live_rows(self.store, "frames", self.day)
        ids = [row["frame_id"] for row in live]
        assert len(set(ids)) == len(ids) == self.frames
        frames, vans = (redetected_rows(self.store, name, MODEL, self.day) for name in ("frames", "detections"))
        assert [(row["frame_id"], row["outcome"]) for row in frames] == [(each, "processed") for each in ids]
        assert [(row["frame_id"], row["label"]) for row in vans] == [(each, "van") for each in ids]
        assert not objects_below(self.store, self.parts)
        made = self._made_parts()
        typer.echo(f"{len(made)} parts, of which {sum(count > 1 for count in made.values())} were made more than once")
        recipe = next(iter(made)).rpartition("/")[2].partition("-")[0]
        columns = ("frame_id", "source_image_path", "size_bytes", "status")
        day = [FrameToProcess(*(row[name] for name in columns), None) for row in live]
        pieces = (day[start : start + self.part_frames] for start in range(0, self.frames, self.part_frames))
        assert made == Counter(part_key(MODEL, self.day, recipe, piece) for piece in pieces)
        ends = self.frames // self.made.partitions
        logs = [LogRange(each.topic, each.topic_id, each.partition, 0, ends) for each in self.made.chains()]
        assert audit(self.store, lambda: logs, full=True, now=utc_now()).ok
        with self.start() as again:
            assert json.loads(again.communicate(timeout=_LIMIT_S)[0])[0]["skipped"]

    def start(self) -> "subprocess.Popen[str]":
        command = ["-m", "imgpipeline.cli", "redetect", "--model", MODEL, "--day", str(self.day), "--shared", "--json"]
        variables = {
            **self.bucket.environment(),
            "IMGPIPELINE_MODEL": str(self.model),
            "IMGPIPELINE_REDETECT_PART_FRAMES": str(self.part_frames),
            "IMGPIPELINE_DETECT_WORKERS": "1",
            "IMGPIPELINE_MODEL_THREADS": "1",
        }
        return subprocess.Popen([sys.executable, *command], env=environment(variables), cwd=self.folder, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip

    def _of(self, process: "subprocess.Popen[str]") -> tuple[set[str], set[str]]:
        """Return the parts that a process has made, and those that it has only begun."""
        keys = set(objects_below(self.store, self.parts))
        notes = (key for key in keys if key.endswith(_NOTE) and self.store.get(key).endswith(b":%d" % process.pid))
        own = {key.removesuffix(_NOTE) + _PART for key in notes}
        return own & keys, own - keys

    def _made_parts(self) -> Counter[str]:
        """Count the requests that put each part, also those that found it there."""
        requests = map(str.split, self.log.read_text().splitlines()[1:])
        keys = (request[8] for request in requests if request[7] == "s3_PutObject")
        return Counter(key for key in keys if key.startswith(self.parts) and key.endswith(_PART))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the test, and print its figures."""
    parser = argparse.ArgumentParser(prog="redetection", description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="frames of the day, an even number")
    parser.add_argument("--part-frames", type=int, default=500, help="frames of each part")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shared-") as name:
        folder, log = Path(name), Path(name) / "requests.log"
        with S3Server(folder / "s3", access_log=log) as server:
            day = SharedDay(folder, server.create_bucket("shared"), log, chosen.frames, chosen.part_frames)
            day.share()
            day.prove()


if __name__ == "__main__":
    main()
