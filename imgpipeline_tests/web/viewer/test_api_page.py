"""Every block of docs/api.md runs as it stands, against a real server."""

import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from imgpipeline_tests.lake.query.site import DAY
from imgpipeline_tests.servers.programs import MissingProgramError, curl
from imgpipeline_tests.web.viewer.conftest import ViewedStore

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
BLOCKS = re.findall(r"```bash\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.medium
def test_each_block_runs_and_its_files_hold_what_it_says(viewed: ViewedStore, tmp_path: Path):
    try:
        curl()
    except MissingProgramError as missing:
        pytest.skip(str(missing))
    first, *blocks = BLOCKS
    assert len(blocks) > 8
    setting = first.replace("http://127.0.0.1:8050", str(viewed.viewer.http.base_url).rstrip("/"))
    assert setting != first
    for block in blocks:
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", setting + block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout[-2000:]}\n{done.stderr}"
    with pa.ipc.open_stream(tmp_path / "frames.arrows") as stream:
        table = stream.read_all()
    listed = viewed.viewer.json("/api/v1/frames", **{"from": DAY, "to": "2026-01-10", "limit": 1000})
    assert table["frame_id"].to_pylist() == [one["frame_id"] for one in listed["frames"]]
    assert "boxes" not in table.column_names
