"""Time zones by their IANA names, such as `Asia/Kolkata`, and local times without an offset.

Storage and partitions are UTC. A site's time zone is for times that name no offset, and for the days and hours that are
shown.
"""

import difflib
from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator

_NOT_FIXED = ("posix/", "right/", "posixrules", "localtime", "Factory")
"""Files of the time zone database that are not IANA names, mean another place on another machine, or count leap
seconds."""


def find_timezone(name: str) -> tzinfo:
    """Returns a time zone.

    Args:
        name: Its IANA name.

    Raises:
        ValueError: There is none of that name; the message names similar ones.
    """
    if name == "UTC":
        return UTC
    try:
        if not name.startswith(_NOT_FIXED):
            return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a path, a folder of the database, an unknown name
        pass
    similar = _similar_names(name)
    hint = f"similar names: {', '.join(similar)}" if similar else "expected a name such as Europe/Berlin or UTC"
    raise ValueError(f"{name!r} is not an IANA time zone; {hint}")


def _similar_names(name: str) -> list[str]:
    known = sorted(zone for zone in available_timezones() if not zone.startswith(_NOT_FIXED))
    folded = {zone.casefold(): zone for zone in known}
    wanted = name.strip().replace(" ", "_").casefold()
    if wanted in folded:
        return [folded[wanted]]
    cities = [zone for zone in known if zone.casefold().rpartition("/")[2] == wanted]
    return cities[:3] or [folded[found] for found in difflib.get_close_matches(wanted, folded, n=3, cutoff=0.8)]


def check_timezone(name: str) -> str:
    """Returns the name of a time zone; raises ValueError if it is none."""
    find_timezone(name)
    return name


TimezoneName = Annotated[str, AfterValidator(check_timezone)]
"""A setting that names a time zone."""


def as_utc(local: datetime, zone: tzinfo) -> datetime:
    """Returns a local time without an offset as aware UTC.

    A local time that a clock shows twice, when daylight saving time ends, is the first of the two. One that is skipped,
    when it begins, is shifted forward by as much as the clock: 02:30 becomes 03:30.

    Args:
        local: A time without an offset.
        zone: Where the clock stands.

    Raises:
        OverflowError: It lies outside the years 1 to 9999 in UTC.
    """
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)
