"""`imgpipeline models tune`: measures, keeps the result, and says what `auto` uses."""

from pathlib import Path

import pytest

from imgpipeline_tests.cli.command import run


@pytest.mark.medium
def test_the_result_is_kept_and_shown(tmp_path: Path):
    env = {"IMGPIPELINE_MODEL_DIR": str(tmp_path / "models")}
    ended = run("models", "tune", "--seconds", "0.01", "--json", env=env, cwd=tmp_path)
    assert ended.status == 0, ended.stderr
    found = ended.json()
    assert Path(found["path"]).is_file()
    assert found["model"] == "demo"
    assert found["best"] in found["rows"]
    assert found["best"]["images_per_s"] == max(
        row["images_per_s"] for row in found["rows"] if row["workers"] == found["best"]["workers"]
    )
