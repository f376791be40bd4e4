"""What `import imgpipeline` gives to notebooks and scripts: a light import, and types for checkers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import imgpipeline

REPOSITORY = Path(__file__).resolve().parents[1]
THIRD_PARTY = ("cv2", "dagster", "duckdb", "kafka", "numpy", "obstore", "pandas", "pyarrow", "pydantic", "typer")
NOT_FOR_TABLES = ("cv2", "dagster", "kafka", "onnx", "onnxruntime", "openvino", "typer")
CALLER = """
from datetime import date
from typing import assert_type

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from imgpipeline import Lake
from imgpipeline.lake.query.explain import Explanation


def use(lake: Lake) -> None:
    assert_type(lake.frames(day="2026-01-09", source="gate", limit=3), pd.DataFrame)
    assert_type(lake.sql("SELECT 1"), pd.DataFrame)


with Lake.open() as lake:
    use(lake)
    assert_type(lake.days(), list[date])
    assert_type(lake.image(date(2026, 1, 9), "a"), npt.NDArray[np.uint8])
    assert_type(lake.explain("2026-01-09", "car"), Explanation)
    arrow: Lake[pa.Table] = lake.arrow
    assert_type(arrow.label_counts(), pa.Table)
    lake.frames(limit="3")
"""


def loaded_by(code: str) -> set[str]:
    shown = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", shown], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_no_library():
    assert loaded_by("import imgpipeline").isdisjoint(THIRD_PARTY)


@pytest.mark.medium
def test_lake_loads_what_tables_need_alone():
    assert loaded_by("from imgpipeline import Lake").isdisjoint(NOT_FOR_TABLES)


def test_names_of_the_package_are_listed_and_others_are_refused():
    assert {"Lake", "__version__"} <= set(dir(imgpipeline))
    with pytest.raises(AttributeError, match="module 'imgpipeline' has no attribute 'Pond'"):
        imgpipeline.Pond  # noqa: B018 - the access is the test


@pytest.mark.slow
def test_callers_are_type_checked(tmp_path):
    """`mypy --strict` accepts correct calls and refuses a wrong one: the package ships its types."""
    (tmp_path / "caller.py").write_text(CALLER)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(REPOSITORY / ".mypy_cache"), "caller.py"]
    environment = {"MYPYPATH": str(REPOSITORY), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    [error] = [line for line in done.stdout.splitlines() if "caller.py" in line and "error:" in line]
    assert 'Argument "limit" to "frames" of "Lake" has incompatible type "str"' in error
