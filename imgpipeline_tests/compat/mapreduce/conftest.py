"""The real Hadoop Streaming, where it is installed."""

import pytest

from imgpipeline_tests.servers.hadoop import HadoopStreaming


@pytest.fixture
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> HadoopStreaming:
    """Hadoop Streaming with a folder of its own."""
    return HadoopStreaming(tmp_path_factory.mktemp("hadoop"))
