"""Requests that are made from the viewer's own description of its API (OpenAPI), right ones and wrong ones."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from requests import Session
from schemathesis import APIOperation, Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from imgpipeline.events.alerts.chain import AlertChain
from imgpipeline.objectstore import open_store
from imgpipeline.settings import Settings
from imgpipeline_tests.fuzz.cases import Tally
from imgpipeline_tests.lake.query.site import fill
from imgpipeline_tests.ledger.samples import NOON
from imgpipeline_tests.web.viewer.conftest import image_change

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_MOST_AT_ONCE = 100
_SETTINGS = settings(database=None, deadline=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
_ENDLESS = "/api/v1/changes"
"""A stream; its answer has no end to wait for."""


def send_requests(
    url: str, known: Mapping[str, str], first_seed: int, count: int, told: Callable[[int], None]
) -> Tally:
    """Sends requests to every operation in turn, until they are as many as asked for.

    Args:
        url: Of the viewer.
        known: Parts of paths that exist, by name; every second right request has them.
        first_seed: Makes the requests the same again.
        count: How many to send.
        told: Is told after each request how many have been sent.

    Returns:
        The status of each answer. An answer that the description does not foresee is a violation.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    at_once = min(_MOST_AT_ONCE, count // (2 * len(operations)))  # so that a small count reaches all operations
    sender = _Sender(Session(), Tally(), known, count, at_once, told)
    while sender.left:
        for operation in operations:
            if operation.path != _ENDLESS:
                first_seed += 1
                sender.send_some(operation, first_seed)
    return sender.tally


class _Sender:
    """Sends requests until there were enough."""

    def __init__(
        self,
        session: Session,
        tally: Tally,
        known: Mapping[str, str],
        left: int,
        at_once: int,
        told: Callable[[int], None],
    ) -> None:
        self.tally, self.left, self._at_once = tally, left, at_once
        self._session, self._known, self._told, self._sent = session, known, told, 0

    def send_some(self, operation: APIOperation, number: int) -> None:
        """Sends a batch of requests to one operation: as described and, where it has parameters, otherwise."""
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            send = given(st.just(mode), operation.as_strategy(generation_mode=mode))(self._send)
            with suppress(Unsatisfiable):  # nothing can be wrong in a request without parameters
                seed(number)(settings(_SETTINGS, max_examples=self._at_once)(send))()

    def _send(self, mode: GenerationMode, case: Case) -> None:
        if not self.left:
            return
        if mode is GenerationMode.POSITIVE and self._sent % 2:
            case.path_parameters = {
                name: self._known.get(name, given) for name, given in (case.path_parameters or {}).items()
            }
        answer = case.call(session=self._session)
        self.left, self._sent = self.left - 1, self._sent + 1
        self.tally.outcomes[f"{case.method} {case.operation.path}", f"{mode.value} {answer.status_code}"] += 1
        try:
            case.validate_response(answer, checks=CHECKS)
        except (Failure, FailureGroup) as failure:
            what = getattr(failure, "exceptions", failure)
            self.tally.violations.append(f"{what}: {case.as_curl_command()}")
        if "default-src 'self'" not in str(answer.headers.get("content-security-policy")):
            self.tally.violations.append(f"no content security policy: {case.as_curl_command()}")
        self._told(self._sent)


def fill_store(folder: Path) -> tuple[Settings, dict[str, str]]:
    """Fills a store for the viewer, and returns its settings and parts of paths that exist there."""
    settings_ = Settings(_env_file=None, store_url=(folder / "store").as_uri(), api_keys_file=folder / "keys.json")
    store = open_store(settings_)
    site = fill(store, {})
    AlertChain(store).append(image_change(site, 1), difference_image=None, now=NOON)
    seen = site.frames[0]
    return settings_, {"day": str(seen.day), "frame_id": seen.frame_id, "number": "1", "position": "0"}
