"""What a process of Dagster loads before it has anything to do, since every run pays for it; and its one warning."""

import json
import subprocess
import sys
from datetime import date

import pytest

from imgpipeline.objectstore import open_store
from imgpipeline_tests.cli.command import environment
from imgpipeline_tests.defs.site import REPOSITORY, make_site
from imgpipeline_tests.defs.stored_days import add_frames
from imgpipeline_tests.detect.conftest import jpeg

DAY = date(2026, 3, 1)
HEAVY = ("cv2", "kafka", "onnx", "onnxruntime", "pandas", "jinja2", "confluent_kafka", "openvino")
TABLES = ("duckdb", "pyarrow", "numpy")
"""What tables and queries need."""


@pytest.mark.medium
def test_the_code_location_loads_no_detector_no_kafka_client_and_no_tables():
    code = "import json, sys; import imgpipeline.definitions; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in (*HEAVY, *TABLES) if name in loaded] == []


BUILD = f"""
import json, sys
import dagster as dg
from imgpipeline.definitions import defs
instance = dg.DagsterInstance.get()
job = defs.resolve_job_def("rebuild_days")
assert job.execute_in_process(instance=instance, tags={{"dagster/partition": "{DAY}"}}).success
newest = dg.AssetRecordsFilter(dg.AssetKey("detections"), asset_partitions=["{DAY}"])
told = instance.fetch_materializations(newest, limit=1).records[0].asset_materialization
print(json.dumps([sorted(sys.modules), told.metadata["skipped"].value, sorted(told.metadata)]))
"""


@pytest.mark.slow
def test_a_build_with_nothing_to_do_shows_what_the_last_one_did(tmp_path):
    site = make_site(tmp_path / "home", {"IMGPIPELINE_STORE_URL": (tmp_path / "store").as_uri()})
    store = open_store(site.settings)
    key = f"images/yard/{DAY}/1.jpg"
    store.put(key, jpeg())
    add_frames(store, DAY, 0.9, source_image_path=key)
    first, second = (json.loads(site.run("python", "-c", BUILD).stdout.splitlines()[-1]) for _ in range(2))
    assert (first[1], second[1]) == (False, True)
    assert second[2] == first[2]
    assert "sample" in second[2]
    assert [name for name in HEAVY if name in second[0]] == ["cv2"], "it has drawn a picture"


LOAD_TWICE = """
import importlib, multiprocessing
if __name__ == "__main__":
    importlib.import_module("imgpipeline.definitions")
    start = multiprocessing.get_context("spawn").Process
    run = start(target=importlib.import_module, args=("imgpipeline.definitions",))
    run.start()
    run.join()
"""


@pytest.mark.medium
def test_a_misspelt_setting_is_logged_once_by_the_code_server_and_not_by_its_runs(tmp_path):
    file = tmp_path / "load.py"
    file.write_text(LOAD_TWICE)
    env = environment({"IMGPIPELINE_STOR_URL": "canary-1"})
    done = subprocess.run(
        [sys.executable, str(file)], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("IMGPIPELINE_STOR_URL") == 1
    assert "Did you mean IMGPIPELINE_STORE_URL?" in done.stderr
    assert "canary" not in done.stdout + done.stderr
