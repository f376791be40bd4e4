"""`sources run` runs all kinds of sources from one file until SIGTERM; `books` and `status` need only the store."""

import csv
import io
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import cv2
import httpx
import numpy as np
import pytest

from imgpipeline.contracts.notices import NoticeKind
from imgpipeline.contracts.times import utc_now
from imgpipeline.sources.configuration import load_sources
from imgpipeline_tests.cli.command import environment, run
from imgpipeline_tests.cli.samples import settings_of
from imgpipeline_tests.detect.conftest import jpeg
from imgpipeline_tests.ledger.samples import write_chain
from imgpipeline_tests.ledger.sessions import account, said, shot
from imgpipeline_tests.servers.mosquitto import Mosquitto
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.servers.waiting import wait_until
from imgpipeline_tests.sources.mqtt.broker import send
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published

pytestmark = pytest.mark.medium
STARTED, ENDED = NoticeKind.STARTED, NoticeKind.ENDED
IMAGE = {"content-type": "image/jpeg"}
EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "sources.toml"


def test_books_that_balance(folder_site, store_of, tmp_path):
    notices = [account(2, 1, gated=1, dropped={"queue": 2}), said(3, ENDED)]
    write_chain(store_of(folder_site), [said(0, STARTED), shot(1), *notices])
    ended = run("sources", "books", "--day", "2026-01-09", "--json", env=folder_site, cwd=tmp_path)
    (entry,) = ended.json()
    assert (ended.status, entry["received"], entry["announced"], entry["in_ledger"]) == (0, 4, 1, 1)
    assert (entry["dropped"], entry["state"], entry["difference"]) == ({"queue": 2}, "closed", 0)
    rows = list(csv.DictReader(io.StringIO(run("sources", "books", "--csv", env=folder_site, cwd=tmp_path).stdout)))
    assert [(row["source"], row["session"], row["dropped"]) for row in rows] == [("cam-1", "b3f0", '{"queue": 2}')]
    table = run("sources", "books", env=folder_site, cwd=tmp_path)
    assert "queue 2" in table.stdout
    assert run("sources", "books", "--source", "cam-2", env=folder_site, cwd=tmp_path).stderr.startswith("There is no")


def test_books_that_do_not_balance_fail_and_name_the_session(folder_site, store_of, tmp_path):
    write_chain(store_of(folder_site), [said(0, STARTED), shot(1), account(2, 2), said(3, ENDED)])
    ended = run("sources", "books", env=folder_site, cwd=tmp_path)
    assert ended.status == 1
    assert "WRONG: cam-1, session b3f0, 2026-01-09: 2 announced frames, but 1 record in the ledger" in ended.stderr


def test_status_from_the_store_alone(folder_site, store_of, tmp_path):
    store = store_of(folder_site)
    assert "No source" in run("sources", "list", env=folder_site, cwd=tmp_path).stderr
    today = utc_now().date()
    write_chain(store, [said(0, STARTED, day=today), said(1, NoticeKind.OFFLINE, reason="no route", day=today)])
    ended = run("sources", "list", "--json", env=folder_site, cwd=tmp_path)
    (found,) = ended.json()
    assert (found["source"], found["state"], found["reason"]) == ("cam-1", "offline", "no route")
    assert (found["frames_today"], found["observed_today_s"]) == (0, 0)
    assert "no route" in run("sources", "list", env=folder_site, cwd=tmp_path).stdout


def test_the_example_of_every_kind_of_source_is_valid():
    assert len(load_sources(EXAMPLE)) == 7


def test_a_camera_without_a_url_is_the_one_of_rtsp_url(tmp_path):
    (tmp_path / "sources.toml").write_text('[[source]]\nname = "gate"\nkind = "rtsp"\n')
    check = ("sources", "run", "sources.toml", "--check")
    named = run(*check, env={"RTSP_URL": "rtsp://rtsp-simulator:8554/test"}, cwd=tmp_path)
    unnamed = run(*check, env={}, cwd=tmp_path)
    assert (named.status, unnamed.status) == (0, 1)
    assert "or set RTSP_URL" in unnamed.stderr


@pytest.mark.slow
def test_a_check_finds_what_a_source_names_and_this_machine_lacks(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "sources.toml").write_text(
        """
        [[source]]
        name = "gate"
        kind = "rtsp"
        url = "rtsp://127.0.0.1/gate"
        credentials_env = "GATE_LOGIN"
        [[source]]
        name = "box"
        kind = "folder"
        path = "in"
        [[source]]
        name = "sensors"
        kind = "mqtt"
        host = "127.0.0.1"
        username = "alice"
        password_file = "password"
        """
    )
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    (tmp_path / ".env").write_text("GATE_LOGIN=alice:secret\n")
    (tmp_path / "password").write_text("secret\n")
    ended = run("sources", "run", "sources.toml", "--check", env=env, cwd=tmp_path)
    assert (ended.status, ended.stderr) == (0, "sources.toml is valid: 3 sources.\n")
    (tmp_path / "password").write_text("")
    emptied = run("sources", "run", "sources.toml", "--check", env=env, cwd=tmp_path)
    assert "The first line of password is empty" in emptied.stderr
    for name in (".env", "password"):
        (tmp_path / name).unlink()
    (tmp_path / "in").rmdir()
    ended = run("sources", "run", "sources.toml", "--check", env=env, cwd=tmp_path)
    assert ended.status == 1
    lines = ended.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ['source "gate"', 'source "box"', 'source "sensors"']
    assert "GATE_LOGIN is not set, neither in the environment nor in .env" in lines[0]
    assert "There is no folder in." in lines[1]
    assert "The secret in password cannot be read" in lines[2]
    assert not (tmp_path / "state").exists(), "a check left the state of a watched folder behind"


def metrics(port: int) -> str:
    try:
        return urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    except OSError:
        return ""


def ignored_files(port: int) -> dict[str, int]:
    found: dict[str, int] = httpx.get(f"http://127.0.0.1:{port}/health").json()["ignored_files"]
    return found


def is_announced(port: int, source: str, frames: int = 1) -> bool:
    labels = f'outcome="announced",reason="",source="{source}"'
    return f"imgpipeline_source_frames_total{{{labels}}} {frames}.0" in metrics(port)


def file_of_sources(incoming: Path, ports: dict[str, int], store_url: str) -> str:
    return f"""
        [[source]]
        name = "box"
        kind = "folder"
        path = "{incoming}"
        rescan_s = 0.2
        [[source]]
        name = "sensors"
        kind = "mqtt"
        host = "127.0.0.1"
        port = {ports["mqtt"]}
        topic = "images/+/raw"
        [[source]]
        name = "uploads"
        kind = "http"
        port = {ports["http"]}
        masks = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
        [[source]]
        name = "archive"
        kind = "s3"
        url = "{store_url}/archive"
        """


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_folder_is_picked_up_at_the_start_and_when_files_come_beside_other_sources(site, tmp_path, store_of):
    incoming, port, http_port = tmp_path / "incoming", free_port(), free_port()
    incoming.mkdir()
    (incoming / "a.jpg").write_bytes(jpeg(1))
    (incoming / "notes.txt").touch()
    store = store_of(site)
    store.create("archive/a.jpg", jpeg(4))
    with Mosquitto(tmp_path / "mosquitto") as broker:
        ports = {"mqtt": broker.port, "http": http_port}
        (tmp_path / "sources.toml").write_text(file_of_sources(incoming, ports, site["IMGPIPELINE_STORE_URL"]))
        arguments = ["sources", "run", "sources.toml", "--metrics-port", str(port)]
        env = environment({**site, "XDG_STATE_HOME": str(tmp_path)})
        service = subprocess.Popen(
            [sys.executable, "-m", "imgpipeline.cli", *arguments], env=env, cwd=tmp_path, stdout=subprocess.DEVNULL
        )

        try:
            wait_until(partial(is_announced, port, "box"), limit_s=60, what="the image that was there")
            (incoming / "b.jpg").write_bytes(jpeg(6))
            wait_until(lambda: broker.has_subscriber("imgpipeline-sensors"), limit_s=60, what="the subscription")
            send(broker, [("images/gate/raw", jpeg(2)), ("images/yard/raw", jpeg(3))])
            answer = httpx.post(f"http://127.0.0.1:{http_port}/frames/door", content=jpeg(5), headers=IMAGE, timeout=60)
            assert (answer.status_code, answer.json()["status"]) == (201, "announced")
            for source, count in {"box": 2, "gate": 1, "yard": 1, "door": 1, "archive": 1}.items():
                wait_until(partial(is_announced, port, source, count), limit_s=60, what=f"the frames of {source}")
            wait_until(lambda: ignored_files(port) == {"box": 1}, limit_s=60, what="the file that is not an image")
        finally:
            service.send_signal(signal.SIGTERM)
            assert service.wait(60) == 0
    settings = settings_of(site)
    found = read_published(settings)
    frames = {message.source: message for message in frames_in(found)}
    assert sorted(frames) == ["archive", "box", "door", "gate", "yard"]
    assert {account.source for account in accounts_in(found)} == {*frames}
    masked = cv2.imdecode(np.frombuffer(store.get(str(frames["door"].image_path)), np.uint8), cv2.IMREAD_COLOR)
    assert masked.max() == 0
    assert str(frames["archive"].image_path).endswith("archive/a.jpg")
