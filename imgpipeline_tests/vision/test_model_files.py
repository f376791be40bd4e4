"""Downloads from a real HTTP server that cuts connections, sends wrong files, and disappears."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgpipeline.errors import ConfigurationError, PermanentError, TransientError
from imgpipeline.vision import registry
from imgpipeline.vision.adding import entry_text
from imgpipeline.vision.detector import load_detector
from imgpipeline.vision.model import ModelFile
from imgpipeline.vision.model_files import pull_file, pull_model
from imgpipeline.vision.registry import find_model
from imgpipeline_tests.servers.ports import free_port
from imgpipeline_tests.vision.darknet.random_weights import random_weights
from imgpipeline_tests.vision.darknet.small_networks import EVERY_LAYER
from imgpipeline_tests.vision.file_server import FileServer, serve_files

CONTENT = bytes(np.random.default_rng(1).integers(0, 256, 1_000_000, dtype=np.uint8))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """A proxy of the machine must not stand between the tests and their server."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with serve_files({"model.bin": CONTENT}) as state:
        yield state


def registered(server: FileServer, content: bytes = CONTENT) -> ModelFile:
    url = f"{server.url}/model.bin"
    return ModelFile("onnx", "model.bin", len(content), hashlib.sha256(content).hexdigest(), url)


def pull(file: ModelFile, folder: Path, seen: list[tuple[int, int]] | None = None) -> Path:
    seen = [] if seen is None else seen
    return pull_file(file, folder, progress=lambda *done: seen.append(done), timeout_s=5, retry_wait_s=0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_progress_is_told(server, tmp_path):
    seen: list[tuple[int, int]] = []
    path = pull(registered(server), tmp_path, seen)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["model.bin"]
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "model.bin").write_bytes(CONTENT[:-1] + b"?")
    assert pull(registered(server), tmp_path).read_bytes() == CONTENT


def test_a_file_whose_connection_is_cut_is_fetched_again(server, tmp_path):
    server.cut_after = [300_000, 0, 200_000]
    assert pull(registered(server), tmp_path).read_bytes() == CONTENT


def test_a_file_whose_connection_is_always_cut_leaves_nothing(server, tmp_path):
    server.cut_after = [300_000] * 4
    with pytest.raises(TransientError, match="no connection to"):
        pull(registered(server), tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_stumbles_is_asked_again(server, tmp_path):
    server.statuses = [503, 500]
    assert pull(registered(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("served", [CONTENT[:-1] + b"?", CONTENT[:-1], CONTENT + b"!"])
def test_another_file_than_the_registered_one_never_gets_its_name(server, tmp_path, served):
    server.files["model.bin"] = served
    with pytest.raises(PermanentError, match="not the registered file"):
        pull(registered(server), tmp_path)
    assert not (tmp_path / "model.bin").exists()
    server.files["model.bin"] = CONTENT
    assert pull(registered(server), tmp_path).read_bytes() == CONTENT, "what was wrong does not stay in the way"


def test_a_file_that_moved_is_said_plainly(server, tmp_path):
    del server.files["model.bin"]
    with pytest.raises(PermanentError, match=r"answers 404"):
        pull(registered(server), tmp_path)


def test_no_network_is_said_plainly(tmp_path):
    file = ModelFile("onnx", "model.bin", 10, "0" * 64, f"http://127.0.0.1:{free_port()}/model.bin")
    with pytest.raises(TransientError) as caught:
        pull(file, tmp_path)
    assert "no connection to 127.0.0.1" in str(caught.value)
    assert "by hand" in (caught.value.next_step or "")
    assert names(tmp_path) == []


def test_an_unresolvable_host_name_is_a_network_error(tmp_path):
    file = ModelFile("onnx", "model.bin", 10, "0" * 64, "http://no-such-host.invalid/model.bin")
    with pytest.raises(TransientError, match=r"no connection to no-such-host\.invalid"):
        pull(file, tmp_path)


def test_a_file_that_cannot_be_written_is_not_the_networks_fault(server, tmp_path):
    (tmp_path / "model.bin").mkdir()
    with pytest.raises(PermanentError, match=r"model\.bin cannot be written"):
        pull(registered(server), tmp_path)
    assert len(server.asked) == 1, "it is not tried again"


def test_a_folder_that_cannot_be_made_is_named(tiny):
    tiny.parent.joinpath("models").write_text("a file is in the way", encoding="utf-8")
    with pytest.raises(PermanentError, match="IMGPIPELINE_MODEL_DIR"):
        pull_model("tiny", model_dir=tiny)


def registry_of(server: FileServer, folder: Path, files: dict[str, bytes]) -> Path:
    """A registry with one Darknet model, served by the server."""
    server.files.update(files)
    entries = "".join(
        f'[[models.tiny.files]]\nrole = "{role}"\nname = "{name}"\nurl = "{server.url}/{name}"\n'
        f'size_bytes = {len(files[name])}\nsha256 = "{hashlib.sha256(files[name]).hexdigest()}"\n'
        for role, name in (("weights", "tiny.weights"), ("cfg", "tiny.cfg"))
    )
    path = folder / "registry.toml"
    path.write_text(
        '[models.tiny]\nsummary = "a test"\nlicence = "none"\ndecoder = "yolov4"\ninput_width = 96\n'
        'input_height = 64\nresize = "stretch"\nchannels = "RGB"\nscale = 0.00392156862745098\npad_value = 0\n'
        'labels = ["a", "b", "c"]\nnms_per_class = false\nconfidence_threshold = 0.5\nnms_threshold = 0.4\n'
        f"{entries}[labels]\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def tiny(server, tmp_path, monkeypatch) -> Path:
    """The folder into which the registered Darknet model `tiny` is pulled."""
    files = {"tiny.cfg": EVERY_LAYER.encode(), "tiny.weights": random_weights(EVERY_LAYER, 1)}
    path = registry_of(server, tmp_path, files)
    monkeypatch.setattr(registry, "registry_path", lambda: path)
    return tmp_path / "models"


def test_a_darknet_model_is_pulled_converted_and_loaded(tiny):
    with pytest.raises(ConfigurationError, match="imgpipeline models pull tiny"):
        load_detector("tiny", model_dir=tiny)
    spec = pull_model("tiny", model_dir=tiny)
    detector = load_detector("tiny", model_dir=tiny)
    assert detector.model_sha256 == hashlib.sha256(spec.path.read_bytes()).hexdigest()
    assert detector.detect(np.full((64, 96, 3), 90, np.uint8)) == []


def test_weights_cfg_and_names_are_fetched_once_with_progress(tiny, server):
    """`weights` and `cfg` of a registered Darknet model; what is there already is skipped, and progress is told."""
    seen: list[tuple[int, int]] = []
    pull_model("tiny", model_dir=tiny, progress=lambda *done: seen.append(done))
    assert {"tiny.weights", "tiny.cfg", "tiny.onnx"} <= set(names(tiny))
    sizes = {(tiny / name).stat().st_size for name in ("tiny.weights", "tiny.cfg")}
    assert {size for done, size in seen if done == size} == sizes
    asked = len(server.asked)
    pull_model("tiny", model_dir=tiny)
    assert len(server.asked) == asked == 2


def test_a_model_of_ones_own_is_pulled_from_the_url_in_its_entry(server, tmp_path):
    content = find_model("demo").path.read_bytes()
    server.files["yard.onnx"] = content
    file = ModelFile("onnx", "yard.onnx", len(content), hashlib.sha256(content).hexdigest(), f"{server.url}/yard.onnx")
    (tmp_path / "yard.toml").write_text(entry_text(replace(find_model("demo"), name="yard", files=(file,))))
    with pytest.raises(ConfigurationError, match="imgpipeline models pull yard"):
        find_model("yard", model_dir=tmp_path)
    pull_model("yard", model_dir=tmp_path)
    assert load_detector("yard", model_dir=tmp_path).model_sha256 == file.sha256


def test_a_converted_model_that_was_damaged_is_refused(tiny):
    spec = pull_model("tiny", model_dir=tiny)
    content = bytearray(spec.path.read_bytes())
    content[len(content) // 2] ^= 1
    spec.path.write_bytes(content)
    with pytest.raises(PermanentError, match=r"damaged.*imgpipeline models pull tiny"):
        load_detector("tiny", model_dir=tiny)
    pull_model("tiny", model_dir=tiny)
    assert load_detector("tiny", model_dir=tiny).model_name == "tiny"


def test_two_pulls_at_once_do_not_disturb_each_other(tiny, server):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: pull_model("tiny", model_dir=tiny), range(3)))
    assert sorted(server.asked) == ["tiny.cfg", "tiny.weights"]
