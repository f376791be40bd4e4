"""An error of the store names the setting to change, in bounded time and without a secret."""

import shutil
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from imgpipeline.errors import ConfigurationError, ImgpipelineError, PermanentError, TransientError
from imgpipeline.objectstore import ForbiddenError, ObjectStore, open_store
from imgpipeline.objectstore.failures import explain_unreachable
from imgpipeline.settings import Settings
from imgpipeline_tests.objectstore.answer_losing_proxy import AnswerLosingProxy, Fate
from imgpipeline_tests.objectstore.stores import s3_settings
from imgpipeline_tests.servers.certificates import make_certificates
from imgpipeline_tests.servers.disks import mounted_disk
from imgpipeline_tests.servers.ports import LOOPBACK, free_port
from imgpipeline_tests.servers.s3_server import S3Bucket, S3Server

CANARY = "canary-4711"
OPERATIONS: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get("a"),
    "put": lambda store: store.put("a", b"1"),
    "create": lambda store: store.create("a", b"1"),
    "replace": lambda store: store.replace("a", b"1", "etag"),
    "list": lambda store: list(store.list_objects("a")),
    "folders": lambda store: store.list_folders("a"),
    "delete": lambda store: store.delete("a"),
}
each_operation = pytest.mark.parametrize("act", OPERATIONS.values(), ids=OPERATIONS.keys())
Answer = Callable[[socket.socket], object]


def failure(settings: Settings, act: Callable[[ObjectStore], object], kind: type[ImgpipelineError]) -> str:
    with pytest.raises(kind) as caught:
        act(open_store(settings))
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@each_operation
def test_a_missing_bucket_names_the_store_s_setting(bucket, act):
    text = failure(s3_settings(bucket, store_url="s3://not-there/lake"), act, ConfigurationError)
    assert "there is no such bucket" in text
    assert "IMGPIPELINE_STORE_URL" in text


@each_operation
def test_an_unknown_key_id_is_never_reported_as_a_missing_object(bucket, act):
    text = failure(s3_settings(bucket, s3_access_key_id=CANARY), act, ConfigurationError)
    assert "AWS_ACCESS_KEY_ID" in text


@each_operation
def test_a_wrong_secret_names_its_setting(bucket, act):
    text = failure(s3_settings(bucket, s3_secret_access_key=CANARY), act, ForbiddenError)
    assert "the secret key is wrong" in text
    assert "AWS_SECRET_ACCESS_KEY" in text


def test_not_even_the_key_id_is_in_the_traceback(s3, tmp_path):
    with S3Server(tmp_path, access_key_id=CANARY) as server:
        there = server.create_bucket("bucket-1")
        failure(s3_settings(there, s3_secret_access_key=SecretStr("wrong")), OPERATIONS["get"], ForbiddenError)


@each_operation
def test_a_wrong_region_names_its_setting(bucket, act):
    text = failure(s3_settings(bucket, s3_region="eu-west-1"), act, ConfigurationError)
    assert "IMGPIPELINE_S3_REGION" in text


@pytest.mark.parametrize("missing", ["s3_access_key_id", "s3_secret_access_key"])
def test_incomplete_credentials_are_refused_before_any_request(missing):
    values = {"s3_access_key_id": "a", "s3_secret_access_key": "b"} | {missing: None}
    settings = Settings(_env_file=None, store_url="s3://bucket", s3_endpoint="http://127.0.0.1:9", **values)
    with pytest.raises(ConfigurationError, match=r"AWS_ACCESS_KEY_ID.*AWS_SECRET_ACCESS_KEY"):
        open_store(settings)


@pytest.mark.medium
@pytest.mark.fault(15)
@each_operation
def test_an_endpoint_where_nothing_listens_is_named_within_seconds(act):
    there = S3Bucket("bucket-1", f"http://{LOOPBACK}:{free_port()}", "key", "secret")
    started = time.monotonic()
    text = failure(s3_settings(there, store_patience_s=1.0), act, TransientError)
    assert time.monotonic() - started < 60
    assert "IMGPIPELINE_S3_ENDPOINT" in text


@pytest.mark.slow
@pytest.mark.fault(15)
def test_a_server_that_never_answered_is_given_up_long_before_the_default_patience():
    """Most likely it was not started, or its address is wrong."""
    there = S3Bucket("bucket-1", f"http://{LOOPBACK}:{free_port()}", "key", "secret")
    started = time.monotonic()
    failure(s3_settings(there), OPERATIONS["list"], TransientError)
    assert time.monotonic() - started < 30, "the default patience is 45 s"


@pytest.mark.fault(14)
def test_a_server_that_is_down_for_a_moment_goes_unnoticed(s3, bucket):
    """Fault 14: three errors, then success."""
    with AnswerLosingProxy(
        s3.port, lambda _m, _p, number: Fate.ANSWER_503_BEFORE if number < 3 else Fate.FORWARD
    ) as proxy:
        store = open_store(s3_settings(bucket, s3_endpoint=proxy.endpoint))
        store.put("a", b"1")
        assert store.get("a") == b"1"
        assert proxy.fates("PUT") == [Fate.ANSWER_503_BEFORE] * 3 + [Fate.FORWARD]


@pytest.mark.fault(16)
def test_a_refusal_is_not_repeated(s3, bucket):
    """Fault 16: fails fast, names key and permission."""
    with AnswerLosingProxy(s3.port, lambda *_: Fate.ANSWER_403) as proxy:
        text = failure(s3_settings(bucket, s3_endpoint=proxy.endpoint), OPERATIONS["put"], ForbiddenError)
        assert len(proxy.seen) == 1
    assert "/lake/a" in text
    assert "rights in the bucket" in text


def test_a_missing_folder_is_not_an_empty_store(tmp_path):
    store = open_store(Settings(_env_file=None, store_url=(tmp_path / "store").as_uri()))
    store.put("metadata/a", b"1")
    shutil.rmtree(tmp_path / "store")
    for name in ("list", "folders"):
        with pytest.raises(PermanentError, match="IMGPIPELINE_STORE_URL"):
            OPERATIONS[name](store)


def test_a_folder_below_a_file_cannot_be_a_store(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_STORE_URL"):
        open_store(Settings(_env_file=None, store_url=(tmp_path / "file" / "store").as_uri()))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    with mounted_disk(tmp_path / "disk", 256) as disk:
        yield disk


@pytest.mark.fault(18)
@pytest.mark.parametrize("name", ["put", "create"])
def test_a_full_disk_is_named_and_leaves_nothing_visible_until_space_is_free(small_disk, name):
    """Fault 18."""
    store = open_store(Settings(_env_file=None, store_url=(small_disk / "store").as_uri()))
    store.put("filler", b"x" * 200_000)
    act = getattr(store, name)
    with pytest.raises(PermanentError, match=rf"{small_disk}.*the disk is full.*IMGPIPELINE_STORE_URL"):
        act("metadata/segment", b"y" * 100_000)
    assert [info.key for info in store.list_objects()] == ["filler"]
    assert store.head("metadata/segment") is None
    store.delete("filler")
    act("metadata/segment", b"y" * 100_000)
    assert store.get("metadata/segment") == b"y" * 100_000


@pytest.mark.medium
@pytest.mark.fault(15)
def test_a_server_that_takes_the_connection_and_never_answers_is_a_transient_error():
    with socket.create_server((LOOPBACK, 0)) as silent:
        there = S3Bucket("bucket-1", f"http://{LOOPBACK}:{silent.getsockname()[1]}", "key", "secret")
        impatient = s3_settings(there, store_timeout_s=0.5, store_patience_s=1.0)
        assert "IMGPIPELINE_S3_ENDPOINT" in failure(impatient, OPERATIONS["create"], TransientError)


@pytest.mark.fault(46)
@each_operation
def test_errors_that_waiting_cannot_fix_are_not_retried(s3, act):
    """A missing bucket fails just as fast with the default patience."""
    with AnswerLosingProxy(s3.port) as proxy:
        there = S3Bucket("not-there", proxy.endpoint, s3.access_key_id, s3.secret_access_key)
        failure(s3_settings(there), act, ConfigurationError)
        assert len(proxy.seen) == 1


@contextmanager
def listening(answer: Answer) -> Iterator[int]:
    """Listen on a loopback port and handle each connection with a function."""
    with socket.create_server((LOOPBACK, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def error_at(endpoint: str) -> ImgpipelineError:
    settings = s3_settings(S3Bucket("bucket", endpoint, "key-canary", "secret-canary"), store_patience_s=0)
    with pytest.raises(ImgpipelineError) as caught:
        open_store(settings).get("frames/a")
    assert "canary" not in str(caught.value)
    assert str(caught.value.message).startswith("Could not read s3://bucket/lake/frames/a: the S3 server at ")
    return caught.value


def test_a_closed_port():
    endpoint = f"http://{LOOPBACK}:{free_port()}"
    error = error_at(endpoint)
    assert isinstance(error, TransientError)
    assert f"the S3 server at {endpoint} cannot be reached: the port is closed: nothing listens there" in error.message
    assert error.next_step is not None
    assert error.next_step.startswith("start the S3 server, or set IMGPIPELINE_S3_ENDPOINT to the address")
    assert "imgpipeline doctor" in error.next_step


def test_a_name_that_does_not_resolve():
    error = error_at("http://no-such-host.invalid:7070")
    assert isinstance(error, TransientError)
    assert "http://no-such-host.invalid:7070 cannot be reached: the host name cannot be resolved" in error.message
    assert "IMGPIPELINE_S3_ENDPOINT" in str(error.next_step)


def speak_ssh(connection: socket.socket) -> None:
    connection.recv(10)
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


def read_then_close(connection: socket.socket) -> None:
    """Read before closing, since closing with unread data could reset the connection during the handshake."""
    connection.recv(65_536)
    connection.close()


@pytest.mark.parametrize(
    ("scheme", "answer", "kind", "cause", "step"),
    [
        ("https", lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ConfigurationError, "not speak TLS", "http://"),
        ("http", speak_ssh, ConfigurationError, "does not speak HTTP", "IMGPIPELINE_S3_ENDPOINT"),
        ("http", socket.socket.close, TransientError, "closed the connection without an answer", "https://"),
        ("https", read_then_close, TransientError, "during the TLS handshake", "http://"),
    ],
    ids=["https to a plain port", "another protocol", "hangs up", "hangs up on TLS"],
)  # fmt: skip
def test_a_port_that_speaks_something_else(scheme, answer, kind, cause, step):
    with listening(answer) as port:
        error = error_at(f"{scheme}://{LOOPBACK}:{port}")
    assert isinstance(error, kind)
    assert f"{scheme}://{LOOPBACK}:{port} cannot be reached: " in error.message
    assert cause in error.message
    assert step in str(error.next_step)


@pytest.mark.medium
def test_a_certificate_of_an_unknown_authority(tmp_path):
    certificates = make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server_file)
    with listening(lambda c: context.wrap_socket(c, server_side=True).recv(10)) as port:
        error = error_at(f"https://{LOOPBACK}:{port}")
    assert isinstance(error, ConfigurationError)
    assert "its TLS certificate is not accepted (UnknownIssuer)" in error.message
    assert "SSL_CERT_FILE" in str(error.next_step)


def said(url: str, kind: str) -> str:
    """Return the client's text for a failure that cannot be caused on loopback."""
    return f"Error performing GET {url} in 5.1s - HTTP error: error sending request\n\n{kind}"


def test_a_silent_address_on_a_default_port():
    error = explain_unreachable(said("https://bucket.s3.example.org/key", "kind: Timeout"), "Could not list s3://b/")
    assert error is not None
    assert "https://bucket.s3.example.org:443 cannot be reached: no answer in time" in error.message


def test_no_credentials_are_not_an_unreachable_server():
    error = explain_unreachable(
        said("http://169.254.169.254/latest/api/token", "kind: Timeout"), "Could not list s3://b/"
    )
    assert isinstance(error, ConfigurationError)
    assert "AWS_ACCESS_KEY_ID" in str(error.next_step)


def test_a_server_that_answered_is_reachable():
    text = "Error performing GET http://127.0.0.1:1/b/k in 5s - Server returned non-2xx status code: 503: TimedOut"
    assert explain_unreachable(text, "Could not read s3://b/k") is None
