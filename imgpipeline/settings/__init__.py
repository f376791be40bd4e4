"""Every setting of imgpipeline, in one file per concern, and the clock."""

from imgpipeline.settings.clock import Clock, utc_now
from imgpipeline.settings.loading import Settings, load_settings
from imgpipeline.settings.model import REDETECTION_MODEL
from imgpipeline.settings.variables import PREFIX

__all__ = ["PREFIX", "REDETECTION_MODEL", "Clock", "Settings", "load_settings", "utc_now"]
