"""A lane over real servers, as the tests of `detect` have it, and a whole site, as those of `defs` have it."""

from imgpipeline_tests.defs.conftest import site
from imgpipeline_tests.detect.conftest import lane

__all__ = ["lane", "site"]
