"""The routes of the classic data generator: play a video of the data set, and describe the data set.

`POST /start/{video}` answers immediately with a job. With `?wait=true` or IMGPIPELINE_START_WAITS it answers when the
job has ended, in the classic form `{"status": "Sent N frames from ID."}`.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse

from imgpipeline.errors import ConfigurationError, TransientError
from imgpipeline.settings import Settings
from imgpipeline.web.ingest.jobs import Job, Jobs, JobState

Allow = Callable[[Request, str | None], None]
"""Refuses a request without a key for a source; None: without any key."""
_SUBFOLDERS = ("annotations", "sequences")
_INTERVAL_S = 0.1
"""The interval of the classic data generator."""


def add_classic(app: FastAPI, settings: Settings, jobs: Jobs, allow: Allow) -> None:
    """Adds the routes.

    Args:
        app: The application.
        settings: The data set.
        jobs: The jobs that play videos.
        allow: Refuses a request without a key for a source (None: for any source).
    """
    _add_start(app, settings, jobs, allow)
    _add_jobs(app, jobs, allow)
    name = os.environ.get("SERVICE_NAME", "data_generator")

    @app.get("/", tags=["data generator"])
    def home() -> PlainTextResponse:
        """Answers while the process runs, in the form of the classic data generator."""
        return PlainTextResponse(f"{name} is running!")

    @app.get("/status", tags=["data generator"])
    def status(request: Request) -> dict[str, Any]:
        """Shows which broker and data set are configured."""
        allow(request, None)
        root = settings.dataset_root
        return {
            "service_name": name,
            "python_version": platform.python_version(),
            "kafka_broker_env": settings.kafka_bootstrap_servers,
            "dataset_path_configured": str(root) if root else None,
            "dataset_path_exists": root is not None and root.exists(),
        }

    @app.get("/data_status", tags=["data generator"])
    def data_status(request: Request) -> Response:
        """Shows what the data set contains."""
        allow(request, None)
        if settings.dataset_root is None:
            return JSONResponse({"error": "DATASET_ROOT_DIR is not set."}, 400)
        return JSONResponse(_describe_data(settings))


def _add_start(app: FastAPI, settings: Settings, jobs: Jobs, allow: Allow) -> None:
    @app.post("/start/{video}", status_code=202, tags=["data generator"])
    async def start(
        video: str,
        request: Request,
        wait: Annotated[bool | None, Query()] = None,
        interval_s: Annotated[float, Query(ge=0, le=3600)] = _INTERVAL_S,
    ) -> Response:
        """Plays a sequence or video of the data set, one frame every `interval_s` seconds.

        Answers 202 with the job and its location; with `wait=true`, answers in the classic form when the job has ended.
        A repeated request with the same Idempotency-Key header finds the job of the first request.
        """
        allow(request, video)
        key = request.headers.get("idempotency-key")
        try:
            job = await run_in_threadpool(jobs.start, video, interval_s, key)
        except ConfigurationError as error:
            return JSONResponse({"error": error.message}, 400)
        except TransientError as error:
            return JSONResponse({"error": error.message}, 503, {"Retry-After": "5"})
        if not (settings.start_waits if wait is None else wait):
            return JSONResponse(_document(job), 202, {"Location": f"/jobs/{job.id}"})
        ended = await run_in_threadpool(jobs.wait, job.id)
        if ended.state is JobState.FAILED:
            return JSONResponse({"error": ended.error}, 500)
        return JSONResponse({"status": f"Sent {ended.sent} frames from {video}."})


def _add_jobs(app: FastAPI, jobs: Jobs, allow: Allow) -> None:
    def found(job_id: str, request: Request) -> Job:
        allow(request, None)
        job = jobs.get(job_id)
        if job is None:
            raise HTTPException(404, f"there is no job {job_id!r}")
        allow(request, job.video)
        return job

    @app.get("/jobs/{job_id}", tags=["data generator"])
    def progress(job_id: str, request: Request) -> dict[str, Any]:
        """Shows the progress of a job."""
        return _document(found(job_id, request))

    @app.delete("/jobs/{job_id}", tags=["data generator"])
    def stop(job_id: str, request: Request) -> dict[str, Any]:
        """Ends a job, after its captured frames are announced."""
        return _document(jobs.stop(found(job_id, request).id))


def _document(job: Job) -> dict[str, Any]:
    return {name: value for name, value in asdict(job).items() if name != "idempotency_key"}


def _describe_data(settings: Settings) -> dict[str, Any]:
    root = settings.dataset_root
    is_folder = root is not None and root.is_dir()
    contents = sorted(path.name for path in root.iterdir()) if root and is_folder else []
    found = [name for name in _SUBFOLDERS if name in contents]
    sequences = sorted(p.name for p in (root / "sequences").iterdir()) if root and "sequences" in found else []
    return {
        "dataset_path": str(root),
        "path_exists": root is not None and root.exists(),
        "is_directory": is_folder,
        "contents": contents,
        "expected_subdirs_checked": list(_SUBFOLDERS),
        "expected_subdirs_found": found,
        "all_expected_subdirs_found": len(found) == len(_SUBFOLDERS),
        "sequences_subdir_exists": "sequences" in found,
        "sequences_subdir_contents_count": len(sequences),
        "sequences_subdir_contents_sample": sequences[:5],
    }
