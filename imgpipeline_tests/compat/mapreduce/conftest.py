"""The real Hadoop Streaming, where it is installed."""

import pytest

from imgpipeline_tests.servers.hadoop import HadoopStreaming
from imgpipeline_tests.servers.programs import MissingProgramError


@pytest.fixture
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> HadoopStreaming:
    """Hadoop Streaming with a folder of its own."""
    try:
        return HadoopStreaming(tmp_path_factory.mktemp("hadoop"))
    except MissingProgramError as missing:
        pytest.skip(str(missing))
