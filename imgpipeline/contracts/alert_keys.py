"""The keys of alerts, of the attempts to deliver them, and of acknowledgements; all sort by the alert's number."""

import re

ALERTS = "alerts"
"""Prefix of the alerts."""
DELIVERED = "alerts_delivered"
"""Prefix of the records of alerts that every target has accepted."""
WATCHED = "alerts_watched"
"""Prefix of the records of which rules were watched from when on."""
_NUMBER = re.compile(r"[a-z_]+/(?P<number>\d{10,})\.json", re.ASCII)
_ENTRY = re.compile(r"[a-z_]+/(?:\d{10,}/)?(?P<entry>\d{6,})\.json", re.ASCII)


def alert_key(number: int) -> str:
    """Returns the key of an alert: `alerts/0000000007.json`."""
    return f"{ALERTS}/{number:010d}.json"


def delivered_key(number: int) -> str:
    """Returns the key of the record that an alert was delivered: `alerts_delivered/0000000007.json`."""
    return f"{DELIVERED}/{number:010d}.json"


def attempts_prefix(number: int) -> str:
    """Returns the prefix of the attempts to deliver an alert: `alerts_attempts/0000000007`."""
    return f"alerts_attempts/{number:010d}"


def acknowledgements_prefix(number: int) -> str:
    """Returns the prefix of the acknowledgements of an alert: `alerts_acknowledged/0000000007`."""
    return f"alerts_acknowledged/{number:010d}"


def mqtt_key(name: str) -> str:
    """Returns the key of what is published of the alerts at an MQTT broker: `alerts_mqtt/5f2c….json`."""
    return f"alerts_mqtt/{name}.json"


def entry_key(prefix: str, entry: int) -> str:
    """Returns the key of a numbered entry below a prefix: `alerts_attempts/0000000007/000001.json`."""
    return f"{prefix}/{entry:06d}.json"


def parse_number(key: str) -> int | None:
    """Returns the number of the alert that a key names, or None for another key."""
    match = _NUMBER.fullmatch(key)
    return int(match["number"]) if match else None


def parse_entry(key: str) -> int | None:
    """Returns the number of the entry that a key names, or None for another key."""
    match = _ENTRY.fullmatch(key)
    return int(match["entry"]) if match else None
