"""Renders the pages with Jinja2. Text from outside is escaped, and control characters are made visible."""

import colorsys
from datetime import UTC, date, datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from imgpipeline import __version__
from imgpipeline.contracts.times import find_timezone
from imgpipeline.lake.sessions.local_time import in_zone
from imgpipeline.reports.wording import clock, duration, long_day, long_month, moment, number, size, visible
from imgpipeline.web.viewer.responses import RETRY_AFTER_S
from imgpipeline.web.viewer.shared_lake import SharedLake

STATIC = resources.files("imgpipeline.web.viewer").joinpath("static")
"""The folder of style sheet and modules."""
_TITLES = {
    400: "This address asks for something unknown",
    404: "There is no such thing",
    405: "Only reading is possible",
    500: "Something is wrong",
    503: "Not available right now",
}


_GOLDEN_ANGLE_TURNS = 0.381966
"""Neighbours get hues that lie far apart."""


class Renderer:
    """Makes pages; each shows as of when its tables are."""

    def __init__(self, lake: SharedLake) -> None:
        """Loads the templates.

        Args:
            lake: Its state is shown on every page.
        """
        self._lake = lake
        self._environment = Environment(
            loader=PackageLoader("imgpipeline.web.viewer"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            visible=visible, number=number, size=size, duration=duration, clock=clock, moment=moment, long_day=long_day,
            long_month=long_month, in_zone=frame_time,
            day_in=day_in, colour=self.colour, ago=ago,
        )  # fmt: skip
        site_zone = lake.settings.timezone
        # Links to what is stored by UTC day, on pages that show days of the site's zone.
        utc_only = None if site_zone == "UTC" else "UTC"
        self._environment.globals.update(
            url=url, static=static_url, version=__version__, site_zone=site_zone, utc_only=utc_only
        )

    def colour(self, label: str) -> str:
        """Returns the colour of a label: the same on all pages, and unlike those of labels first seen about then."""
        labels = self._lake.state.labels
        place = labels.index(label) if label in labels else len(labels)
        red, green, blue = colorsys.hsv_to_rgb((0.36 + place * _GOLDEN_ANGLE_TURNS) % 1, 0.72, 0.98)
        return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"

    def page(self, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """Returns a page.

        Args:
            template: Its file.
            status: HTTP status.
            **values: What it shows.
        """
        shown = self._environment.get_template(template).render(state=self._lake.state, **values)
        return HTMLResponse(shown, status, {"Cache-Control": "no-cache"})

    def error(self, status: int, message: str, next_step: str | None) -> HTMLResponse:
        """Returns the page of an error; where trying again helps, the browser does so."""
        page = self.page(
            "error.html", status=status, code=status, title=_TITLES.get(status, "Not possible"), message=message,
            next_step=next_step,
        )  # fmt: skip
        if status == 503:
            page.headers["Refresh"] = page.headers["Retry-After"] = str(RETRY_AFTER_S)
        return page


def url(path: str, **parameters: object) -> str:
    """Returns a URL of this site; parameters that are None are left out."""
    given = {name: str(value) for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def frame_time(time: datetime, zone: str, day: date | None = None) -> str:
    """Returns a time as a clock of a zone shows it, with its offset unless it is UTC: `13:00:05 +01:00`.

    Args:
        time: The time.
        zone: IANA name of the time zone.
        day: Day of the zone that is shown anyway: the date is left out if it is the same.
    """
    local = in_zone(time, find_timezone(zone))
    shown = clock(local, local.tzinfo or UTC) if local.date() == day else moment(local, local.tzinfo or UTC)
    return shown if zone == "UTC" else f"{shown} {local.strftime('%z')[:3]}:{local.strftime('%z')[3:5]}"


def day_in(time: datetime, zone: str) -> date:
    """Returns the day on which a clock of a zone, named as in `frame_time`, shows a time."""
    return in_zone(time, find_timezone(zone)).date()


@cache
def static_url(name: str) -> str:
    """Returns the URL of a static file; it changes with the content, so browsers may keep the file."""
    digest = sha256(STATIC.joinpath(name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def ago(time: datetime, now: datetime) -> str:
    """Returns how long ago a time was, such as `3 min 20 s ago`."""
    passed_s = (now.astimezone(UTC) - time.astimezone(UTC)).total_seconds()
    return f"{duration(round(passed_s))} ago" if passed_s >= 1 else "now"
