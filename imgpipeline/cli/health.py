"""`imgpipeline health`: a probe for service managers and containers."""

import json
from typing import Annotated
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import typer

from imgpipeline.cli.checks import check_kafka, check_object_store, run_checks
from imgpipeline.cli.output import JsonOption, note, show_json
from imgpipeline.settings import load_settings

_ANSWER_S = 5.0


def health(
    supervisor: Annotated[
        int | None,
        typer.Option("--supervisor", help="Also ask the supervisor of `sources run --metrics-port` on this port."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check in a few seconds that Kafka, the topic and the object store answer; exit status 1 if not.

    With --supervisor also that no source of the supervisor on this machine is offline, failed or taken over. Unlike
    `doctor`, it loads no model and gives no advice.
    """
    checks = {("Kafka", "topic"): check_kafka, ("object store",): check_object_store}
    results = run_checks(load_settings(), checks)
    problems = {result.name: result.message for result in results if result.status != "ok"}
    if supervisor is not None:
        problems |= _problems_of(supervisor)
    if as_json:
        show_json({"healthy": not problems, "problems": problems})
    else:
        for name, problem in problems.items():
            note(f"{name}: {problem}")
        if not problems:
            note("healthy")
    if problems:
        raise typer.Exit(1)


def _problems_of(port: int) -> dict[str, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/health", timeout=_ANSWER_S) as answer:
            found = json.load(answer)
    except HTTPError as error:
        found = json.load(error)
    except (URLError, OSError) as error:
        return {"supervisor": f"no answer on port {port}: {getattr(error, 'reason', error)}"}
    return {f"source {name}": str(problem) for name, problem in found["problems"].items()}
