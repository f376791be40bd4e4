"""A limit for all sources with exceptions for some."""

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.variables import SourceLimits


@pytest.mark.parametrize(
    ("text", "gate", "other"),
    [
        pytest.param("900", 900, 900, id="all"),
        pytest.param("off", None, None, id="none"),
        pytest.param("900, gate = 60, uploads=off", 60, 900, id="both"),
        pytest.param("gate=60", 60, None, id="named-only"),
        pytest.param("gate=off,900", None, 900, id="named-first"),
    ],
)
def test_a_source_has_its_own_limit_or_the_default(text, gate, other):
    limits = SourceLimits.parse(text)
    assert (limits.of("gate"), limits.of("other")) == (gate, other)
    assert limits.has_any is (text != "off")
    assert SourceLimits.parse(str(limits)) == limits


@pytest.mark.parametrize("text", ["", "0", "-1", "900,60", "gate=1,gate=2", "=5", "gate=", "nan", "36501"])
def test_an_invalid_limit_is_rejected_and_its_variable_named(text):
    if text:
        with pytest.raises(ConfigurationError, match="IMGPIPELINE_KEEP_IMAGES_DAYS"):
            load_settings(keep_images_days=text)
    with pytest.raises(ValueError):  # noqa: PT011 - any message; the settings replace it
        SourceLimits.parse(text, most=36_500)


def test_plain_numbers_are_accepted_as_limits():
    settings = Settings(_env_file=None, keep_images_days=7, keep_images_bytes=10**12)
    assert (settings.keep_images_days.of("gate"), settings.keep_images_bytes.default) == (7, 10**12)
