"""The sensor's tick over 100 partitions with 1,000,000 segments in all: how long it takes and what it asks the store.

Real Kafka, the real S3 server, Dagster's storage on disk; the ledger is synthetic (`synthetic_ledger`). Measured for
a cursor that knows every chain (warm) and one that was lost (cold), with nothing new and with all partitions behind.

    python -m benchmarks.sensor [--segments 1000000]
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import dagster as dg
from confluent_kafka import Producer

from benchmarks.synthetic_ledger import make_chain
from imgpipeline.contracts.keys import ChainId
from imgpipeline.contracts.records import Partition
from imgpipeline.defs.frames_sensor import frames_sensor
from imgpipeline.ledger import find_end
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings, load_settings
from imgpipeline.stream.log import open_group, read_log
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy
from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

_PARTITIONS = 100
_TOPIC = "sensor"
_GROUP = "sensor-benchmark"
_TICKS = 5
_NEW_RECORDS = 2_000
"""More than one answer of a listing holds, so that the log's end is no help."""
_LONG_CHAIN = ChainId("long", "synthetic", 0)


def measure_sensor(kafka: KafkaBroker, s3: S3Server, segments: int = 1_000_000) -> dict[str, float]:
    """Returns seconds of the sensor's ticks, requests to the store a tick, and find-end on one chain of all segments.

    Takes about three minutes, and two directory entries a segment in the server's folder.

    Args:
        kafka: A running broker without a topic `sensor`.
        s3: A running server on a folder.
        segments: How many in all.
    """
    bucket = s3.create_bucket("sensor-benchmark")
    kafka.create_topic(_TOPIC, partitions=_PARTITIONS)
    settings = _settings(kafka, bucket)
    folder, per_chain = s3.data_dir / bucket.name, segments // _PARTITIONS
    _produce(kafka, per_chain)
    for log in read_log(settings):
        make_chain(open_store(settings), folder, log.chain, per_chain)
    make_chain(open_store(settings), folder, _LONG_CHAIN, segments)
    with open_group(settings) as group:
        group.write({Partition(_TOPIC, number): per_chain for number in range(_PARTITIONS)})
    results = _measure_ticks(s3, kafka, bucket, "nothing new")
    _produce(kafka, _NEW_RECORDS)
    return results | _measure_ticks(s3, kafka, bucket, "all behind") | _measure_find_end(settings, segments)


def _settings(kafka: KafkaBroker, bucket: S3Bucket) -> Settings:
    return load_settings(
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topic=_TOPIC,
        kafka_group=_GROUP,
        store_url=bucket.url,
        s3_endpoint=bucket.endpoint,
        s3_access_key_id=bucket.access_key_id,
        s3_secret_access_key=bucket.secret_access_key,
    )


def _produce(kafka: KafkaBroker, records: int) -> None:
    """Adds so many small records to each partition."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "linger.ms": 50, "acks": "all"})
    for _ in range(records):
        for partition in range(_PARTITIONS):
            while True:
                try:
                    producer.produce(_TOPIC, b"{}", partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise RuntimeError("the broker did not take all records")


def _measure_ticks(s3: S3Server, kafka: KafkaBroker, bucket: S3Bucket, state: str) -> dict[str, float]:
    results: dict[str, float] = {}
    with dg.DagsterInstance.local_temp() as instance, AnswerLosingProxy(s3.port) as proxy:
        direct = {
            **bucket.environment(),
            "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "IMGPIPELINE_KAFKA_TOPIC": _TOPIC,
        }
        with _environment(direct):
            cursor = _settled_cursor(instance)
        for name, given, group in (
            ("warm cursor", cursor, _GROUP),
            ("cold cursor", None, _GROUP),
            ("cold cursor and group reset", None, "reset"),
        ):
            variables = {**direct, "IMGPIPELINE_KAFKA_GROUP": group}
            with _environment(variables):
                results[f"tick, {state}, {name}: s"] = _median_s(lambda given=given: _tick(instance, given))
            proxy.seen.clear()
            with _environment({**variables, "IMGPIPELINE_S3_ENDPOINT": proxy.endpoint}):
                _tick(instance, given)
            for kind, number in _by_kind(proxy, bucket).items():
                results[f"tick, {state}, {name}: {kind} requests"] = float(number)
    return results


def _tick(instance: dg.DagsterInstance, cursor: str | None) -> str:
    """Evaluates the sensor as the daemon does; returns its new cursor."""
    context = dg.build_sensor_context(instance, cursor=cursor)
    answer = frames_sensor(context)
    if not isinstance(answer, dg.SensorResult) or answer.cursor is None:
        raise RuntimeError(f"the tick said: {answer}")
    return answer.cursor


def _settled_cursor(instance: dg.DagsterInstance) -> str:
    """Returns a cursor that knows every chain: a tick asks for some of the unknown ones at a time."""
    cursor = None
    for _ in range(3):
        cursor = _tick(instance, cursor)
    return cursor or ""


def _by_kind(proxy: AnswerLosingProxy, bucket: S3Bucket) -> Counter[str]:
    kinds = Counter({"list": 0, "get": 0, "head": 0})
    for method, path, _ in proxy.seen:
        is_listing = method == "GET" and path.strip("/") == bucket.name
        kinds["list" if is_listing else method.lower()] += 1
    return kinds


def _measure_find_end(settings: Settings, segments: int) -> dict[str, float]:
    store = open_store(settings)
    hints = {"without hint": None, "with hint": segments - 1, "with a hint 50 segments old": segments - 51}
    results = {}
    for name, hint in hints.items():
        if find_end(store, _LONG_CHAIN, hint=hint).offset != segments:
            raise RuntimeError("the end that was found is not the end")
        seconds = _median_s(lambda hint=hint: find_end(store, _LONG_CHAIN, hint=hint))
        results[f"find end of one chain of {segments:,} segments, {name}: ms"] = 1000 * seconds
    return results


def _median_s(work: Callable[[], object]) -> float:
    times_s = []
    for _ in range(_TICKS):
        began_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - began_s)
    return median(times_s)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables of this process for a while: the sensor reads its settings from there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main() -> None:
    """Measures on servers of its own and prints."""
    parser = argparse.ArgumentParser(description="Measure the sensor's tick.")
    parser.add_argument("--segments", type=int, default=1_000_000, help="segments in all, over 100 partitions")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        KafkaBroker(Path(folder) / "kafka", heap_mb=512) as kafka,
        S3Server(Path(folder) / "s3") as s3,
    ):
        results = measure_sensor(kafka, s3, chosen.segments)
    width = max(map(len, results))
    for name, value in results.items():
        sys.stdout.write(f"{name:{width}}  {value:12,.3f}\n")


if __name__ == "__main__":
    main()
