"""A source that dies at any step announces nothing that is not stored, and its accounts add up."""

import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from imgpipeline.contracts.messages import FrameMessage
from imgpipeline.contracts.notices import Notice, NoticeKind
from imgpipeline.faultpoints import PLAN_VARIABLE
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.cli.command import environment
from imgpipeline_tests.faults.published_source import FRAMES
from imgpipeline_tests.sources.published import accounts_in, frames_in, read_published

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def published(settings: Settings, kind: str, tmp_path: Path, fault: str = "") -> int:
    env = environment({
        "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "IMGPIPELINE_KAFKA_TOPIC": settings.kafka_topic,
        "IMGPIPELINE_STORE_URL": settings.store_url,
        PLAN_VARIABLE: fault,
    })  # fmt: skip
    module = "imgpipeline_tests.faults.published_source"
    ended = subprocess.run([sys.executable, "-m", module, kind], env=env, cwd=tmp_path, timeout=60, check=False)
    return ended.returncode


def announced_before(found: list[FrameMessage | Notice], account: Notice) -> int:
    """Counts the frames of the account's session that stand before it."""
    before = found[: found.index(account)]
    return sum(message.attributes["session"] == account.session for message in frames_in(before))


@pytest.mark.fault(51)
@pytest.mark.parametrize("kind", ["finite", "live"])
@pytest.mark.parametrize("step", ["frame captured", "frame stored", "frames announced"])
def test_fault_51_a_source_that_is_killed_at_any_step_announces_only_what_is_stored(step, kind, kafka, topic, tmp_path):
    settings = Settings(
        _env_file=None,
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        kafka_topics=(topic,),
        store_url=(tmp_path / "store").as_uri(),
    )
    (tmp_path / "store").mkdir()
    count = 4 if step == "frames announced" else 10
    assert published(settings, kind, tmp_path, f"{step}:{count}=kill") == -signal.SIGKILL
    killed = read_published(settings)
    assert not [n for n in killed if isinstance(n, Notice) and n.kind is NoticeKind.ENDED]
    assert len(frames_in(killed)) < FRAMES
    assert published(settings, kind, tmp_path) == 0

    found = read_published(settings)
    store = open_store(settings)
    for message in frames_in(found):
        assert sha256(store.get(str(message.image_path))).hexdigest() == message.sha256
    assert {message.frame_number for message in frames_in(found)} == set(range(FRAMES))
    names = {(message.timestamp, message.image_path) for message in frames_in(found)}
    assert len(names) == FRAMES
    for session in {account.session for account in accounts_in(found)}:
        accounts = [account for account in accounts_in(found) if account.session == session]
        said = sum(account.account.announced for account in accounts if account.account)
        assert said == announced_before(found, accounts[-1])
