"""The settings of a process, in one file per concern."""

from imgpipeline.settings.loading import Settings, load_settings, read_secret, read_variable
from imgpipeline.settings.model import LIVE, REDETECTION_MODEL
from imgpipeline.settings.variables import PREFIX

__all__ = ["LIVE", "PREFIX", "REDETECTION_MODEL", "Settings", "load_settings", "read_secret", "read_variable"]
