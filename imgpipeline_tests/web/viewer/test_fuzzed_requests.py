"""Whatever a request says, the answer is what was asked for or a message; never an unexpected error."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipeline.web.viewer.app import ROUTES
from imgpipeline_tests.examples import examples
from imgpipeline_tests.lake.query.site import DAY, NEXT_DAY
from imgpipeline_tests.web.viewer.conftest import HOSTILE_LABEL, HOSTILE_SOURCE

EVIL = ("' OR 1=1 --", '"; DROP TABLE frames', "../../etc/passwd", "\0", "%00", "$1", "{{ 7 * 7 }}")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from([*EVIL, HOSTILE_SOURCE, HOSTILE_LABEL])
DAYS = st.sampled_from([str(DAY), str(NEXT_DAY), "0001-01-01", "9999-12-31", "2026-W02-5"]) | TEXTS
NUMBERS = st.integers().map(str) | st.floats().map(str) | TEXTS
TIMES = st.datetimes().map(lambda time: f"{time.isoformat()}Z") | DAYS
SEARCHES = st.sampled_from(["label:car", "source:gate", "after:2026-01-09", "before:x", "min:0.6", 'a"b', "no:filter"])
VALUES: dict[str, st.SearchStrategy[str]] = {
    "day": DAYS, "source": TEXTS | st.just("gate"), "label": TEXTS | st.just("car"), "hour": NUMBERS | st.just("7"),
    "min_confidence": NUMBERS | st.just("0.6"), "status": TEXTS | st.just("gated"), "after": TEXTS, "before": TEXTS,
    "limit": NUMBERS | st.just("3"), "by": TEXTS | st.just("label"), "format": TEXTS | st.just("csv"), "start": TIMES,
    "end": TIMES, "alert_num": NUMBERS | st.just("1"), "number": NUMBERS | st.just("1"), "position": NUMBERS,
    "from": DAYS, "to": DAYS, "timezone": TEXTS | st.just("Asia/Tokyo"), "at": TEXTS | st.just("12:00:01"),
    "time_from": TEXTS | st.just("07:00"), "time_to": TEXTS | st.just("06:30:10"),
    "month": TEXTS | st.just("2026-01"),
    "q": st.lists(TEXTS | SEARCHES, max_size=4).map(" ".join), "text": TEXTS,
    "topic": TEXTS | st.just("frames"), "partition": NUMBERS | st.just("0"),
    "a": TEXTS | st.just("live"), "b": TEXTS, "counted": TEXTS | st.just("only_a"),
    "line": TEXTS, "direction": TEXTS,
    "zone": TEXTS, "track": TEXTS, "object": TEXTS, "event": TEXTS, "model": TEXTS | st.just("demo"),
    "frame_id": TEXTS | st.text("0123456789abcdef", min_size=32, max_size=32), "name": TEXTS,
}  # fmt: skip


def routes() -> dict[str, list[str]]:
    """Return the paths that are read, each with the names of its parameters."""
    found = {"/static/{name}": ["day"]}
    for module in ROUTES:
        for route in module.router.routes:
            if "GET" in route.methods and not route.path.endswith("/changes"):
                models = [field.field_info.annotation for field in route.dependant.query_params]
                names = [info.alias or name for model in models for name, info in model.model_fields.items()]
                found[route.path] = names or ["day"]
    return found


KNOWN = routes()


@st.composite
def requests(draw: st.DrawFn) -> str:
    """Draw an address: a route with some of its parameters, right or wrong."""
    route = path = draw(st.sampled_from(sorted(KNOWN)))
    for name in ("day", "frame_id", "number", "position", "name", "topic", "partition"):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", quote(draw(VALUES[name]), safe=""))
    names: list[str] = draw(st.lists(st.sampled_from(KNOWN[route]), unique=True, max_size=4))
    query: dict[str, Any] = {name: draw(VALUES.get(name, TEXTS)) for name in names}
    return f"{path}?{urlencode(query)}" if query else path


@pytest.mark.medium
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(address=requests())
def test_an_answer_is_never_an_unexpected_error(viewed, address):
    answer = viewed.viewer.http.get(address)
    assert answer.status_code in {200, 307, 400, 404}, (address, answer.text)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
        assert answer.json()["error"]
