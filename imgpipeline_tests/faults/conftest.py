"""A lane over real servers, as the tests of `detect` have it, and a whole site, as those of `defs` have it."""

from pathlib import Path

import pytest

from imgpipeline_tests.defs.conftest import site
from imgpipeline_tests.detect.conftest import LaneUnderTest, lane
from imgpipeline_tests.faults.damages import followed

__all__ = ["followed", "lane", "site", "stored_lane"]


@pytest.fixture(params=["s3", "folder"])
def stored_lane(request: pytest.FixtureRequest, lane: LaneUnderTest, tmp_path: Path) -> LaneUnderTest:
    """The same lane over the S3 server, and over a local folder."""
    return lane if request.param == "s3" else lane.with_settings(store_url=(tmp_path / "store").as_uri())
