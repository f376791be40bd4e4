"""The real servers of the tests start, behave as the real ones, and never outlive their test process."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import obstore
import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from obstore.exceptions import AlreadyExistsError

from imgpipeline_tests.servers.kafka_broker import KafkaBroker
from imgpipeline_tests.servers.postgres_server import PostgresServer
from imgpipeline_tests.servers.programs import CACHE_HOME, MissingProgramError, kafka_jars, versitygw
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server
from imgpipeline_tests.servers.toxiproxy import ToxiproxyServer
from imgpipeline_tests.servers.waiting import wait_until

pytestmark = pytest.mark.slow


def test_a_record_goes_through_kafka_and_a_topic_is_fresh(kafka: KafkaBroker, topic: str):
    send(kafka.bootstrap_servers, topic, b"frame")
    assert read(kafka.bootstrap_servers, topic, 1) == [(0, b"frame")]


@pytest.mark.parametrize("topic", [3], indirect=True)
def test_a_topic_has_the_number_of_partitions_that_was_asked_for(kafka: KafkaBroker, topic: str):
    admin = kafka.admin()
    described = admin.describe_topics([topic])[0]
    admin.close()
    assert len(described["partitions"]) == 3
    assert described["topic_id"]


@pytest.mark.servers
def test_a_killed_broker_comes_back_on_its_port_with_its_records(tmp_path: Path):
    with broker(tmp_path) as kafka:
        kafka.create_topic("frames")
        send(kafka.bootstrap_servers, "frames", b"before")
        address = kafka.bootstrap_servers
        kafka.kill()
        assert not kafka.process.is_alive
        kafka.start()
        send(kafka.bootstrap_servers, "frames", b"after")
        assert kafka.bootstrap_servers == address
        assert [value for _, value in read(address, "frames", 2)] == [b"before", b"after"]


@pytest.mark.servers
def test_a_secured_broker_takes_the_right_password_and_certificate_and_no_others(tmp_path: Path):
    listeners = ("SASL_PLAINTEXT", "SASL_SSL")
    with broker(tmp_path, listeners=listeners, users={"alice": "right"}) as kafka:
        assert kafka.certificates is not None
        ca, wrong_ca = str(kafka.certificates.ca_file), str(kafka.certificates.wrong_ca_file)
        for mechanism in ("PLAIN", "SCRAM-SHA-512"):
            assert connects(kafka, "SASL_PLAINTEXT", mechanism, "right", None)
            assert not connects(kafka, "SASL_PLAINTEXT", mechanism, "wrong", None)
            assert connects(kafka, "SASL_SSL", mechanism, "right", ca)
        assert not connects(kafka, "SASL_SSL", "PLAIN", "right", wrong_ca)


def test_a_create_only_put_is_refused_the_second_time(bucket: S3Bucket):
    store = bucket.store()
    obstore.put(store, "segment", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "segment", b"second", mode="create")
    assert obstore.get(store, "segment").bytes() == b"first"


def test_a_bucket_is_fresh_and_reached_by_its_environment_alone(bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch):
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    store = obstore.store.S3Store.from_url(
        os.environ["IMGPIPELINE_STORE_URL"],
        endpoint=os.environ["IMGPIPELINE_S3_ENDPOINT"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    assert obstore.list(store).collect() == []


@pytest.mark.servers
def test_a_restarted_s3_server_has_its_port_and_its_objects(tmp_path: Path):
    with s3_server(tmp_path) as server:
        store = server.create_bucket("kept").store()
        obstore.put(store, "segment", b"kept")
        server.restart()
        assert obstore.get(store, "segment").bytes() == b"kept"


def test_postgres_answers_in_a_database_of_its_own(postgres: PostgresServer):
    connection = psycopg2.connect(postgres.create_database("own"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1, current_database()")
        assert cursor.fetchone() == (1, "own")
    connection.close()


def test_a_proxy_cuts_the_connection_and_lets_it_through_again(toxiproxy: ToxiproxyServer, bucket: S3Bucket):
    proxy = toxiproxy.create_proxy(int(bucket.endpoint.rsplit(":", 1)[1]))
    through_proxy = S3Bucket(bucket.name, f"http://{proxy.address}", bucket.access_key_id, bucket.secret_access_key)
    once = {"max_retries": 0}
    store = obstore.store.S3Store(
        through_proxy.name,
        endpoint=through_proxy.endpoint,
        access_key_id=through_proxy.access_key_id,
        secret_access_key=through_proxy.secret_access_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config=once,
    )
    obstore.put(store, "a", b"1")
    proxy.disconnect()
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.put(store, "a", b"2")
    proxy.reconnect()
    with proxy.fault("reset_peer", "upstream", timeout=0), pytest.raises(obstore.exceptions.BaseError):
        obstore.put(store, "a", b"3")
    assert obstore.get(store, "a").bytes() == b"1"
    proxy.delete()


OWNER = """
import pathlib, sys, time
from imgpipeline_tests.servers.{module} import {name}
with {call} as server:
    print(server.process.pid, server.process.log_path.parent, flush=True)
    time.sleep(600)
"""


@pytest.mark.servers
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("kafka_broker", "KafkaBroker", "KafkaBroker(pathlib.Path(sys.argv[1]))"),
        ("s3_server", "S3Server", "S3Server(pathlib.Path(sys.argv[1]))"),
        ("postgres_server", "PostgresServer", "PostgresServer()"),
        ("toxiproxy", "ToxiproxyServer", "ToxiproxyServer(pathlib.Path(sys.argv[1]))"),
    ],
)
def test_a_server_ends_with_its_test_process_even_by_sigkill(tmp_path: Path, module: str, name: str, call: str):
    script = OWNER.format(module=module, name=name, call=call)
    installed = {**os.environ, "XDG_CACHE_HOME": str(CACHE_HOME)}
    command = [sys.executable, "-c", script, tmp_path]
    with subprocess.Popen(command, env=installed, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        line = owner.stdout.readline()
        owner.send_signal(signal.SIGKILL)
    if not line:
        pytest.skip(f"{name} cannot be started here. Install it with: make servers")
    pid, work_dir = line.split()
    wait_until(lambda: is_gone(int(pid)), limit_s=60, what=f"{name} to end with its owner")
    shutil.rmtree(work_dir, ignore_errors=True)  # its owner could not; that of PostgreSQL is not below tmp_path


def test_a_server_that_ends_at_its_start_is_reported_with_its_log(s3: S3Server, tmp_path: Path):
    second = S3Server(tmp_path)
    second.port = s3.port
    second.process = type(second.process)("versitygw", second.command(), tmp_path / "log")
    with pytest.raises(RuntimeError, match=r"(?s)versitygw ended with status .*address already in use"):
        second.start()


def test_the_data_folder_holds_pictures(shared_data: Path):
    assert (shared_data / "images" / "dog.jpg").stat().st_size > 0


@pytest.mark.parametrize(("required", "outcome", "status"), [("0", "1 skipped", 0), ("1", "1 error", 1)])
def test_a_missing_server_skips_its_tests_and_fails_them_where_servers_are_required(
    tmp_path: Path, required: str, outcome: str, status: int
):
    this_test = f"{__file__}::{test_a_create_only_put_is_refused_the_second_time.__name__}"
    nothing_installed = {"XDG_CACHE_HOME": str(tmp_path), "IMGPIPELINE_REQUIRE_SERVERS": required}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rsf", this_test]
    answer = subprocess.run(
        command, env={**os.environ, **nothing_installed}, capture_output=True, text=True, check=False
    )
    assert outcome in answer.stdout
    assert "Install it with: make servers" in answer.stdout
    assert answer.returncode == status


def send(bootstrap_servers: str, topic: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    producer.send(topic, value).get(30)
    producer.close()


def read(bootstrap_servers: str, topic: str, count: int) -> list[tuple[int, bytes]]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    records: list[tuple[int, bytes]] = []

    def all_came() -> bool:
        batches = consumer.poll(timeout_ms=100).values()
        records.extend((record.offset, record.value) for batch in batches for record in batch)
        return len(records) >= count

    wait_until(all_came, limit_s=60, what=f"{count} records of {topic}")
    consumer.close()
    return records


def connects(kafka: KafkaBroker, listener: str, mechanism: str, password: str, ca_file: str | None) -> bool:
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=kafka.address(listener),
            security_protocol=listener,
            sasl_mechanism=mechanism,
            sasl_plain_username="alice",
            sasl_plain_password=password,
            ssl_cafile=ca_file,
            bootstrap_timeout_ms=3000,
        )
        consumer.topics()
    except KafkaError:
        return False
    consumer.close()
    return True


def broker(work_dir: Path, **options) -> KafkaBroker:
    skip_without(kafka_jars)
    return KafkaBroker(work_dir, **options)


def s3_server(work_dir: Path) -> S3Server:
    skip_without(versitygw)
    return S3Server(work_dir)


def skip_without(program) -> None:
    try:
        program()
    except MissingProgramError as missing:
        pytest.skip(str(missing))


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
