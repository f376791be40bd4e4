"""The routes of the classic data generator, and the jobs that play videos of a data set.

`POST /start/{video}` answers immediately with a job. With `?wait=true` or IMGPIPELINE_START_WAITS it answers when the
job has ended, in the classic form `{"status": "Sent N frames from ID."}`. A file stores the progress of each job, so a
restarted server continues it.
"""

import json
import logging
import platform
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from time import monotonic
from typing import Annotated, Any
from uuid import uuid4

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse

from imgpipeline.contracts.times import Clock, utc_now
from imgpipeline.errors import ConfigurationError, ImgpipelineError, TransientError
from imgpipeline.objectstore import ObjectStore
from imgpipeline.settings import Settings
from imgpipeline.settings.loading import read_variable
from imgpipeline.sources.accounts import Totals
from imgpipeline.sources.board import Board
from imgpipeline.sources.folder import Pace
from imgpipeline.sources.ingest import ingest_source
from imgpipeline.sources.options import PublishOptions
from imgpipeline.sources.played import PlayedVideo, find_stored_video

LOG = logging.getLogger(__name__)
MOST_RUNNING = 8
_SAVE_S = 0.5
Allow = Callable[[Request, str | None], None]
"""Refuses a request without a key for a source (None: for any source)."""
_SUBFOLDERS = ("annotations", "sequences")
_INTERVAL_S = 0.1
"""The interval of the classic data generator."""


class JobState(StrEnum):
    """The state of a job."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Job:
    """A job that plays a video."""

    id: str
    video: str
    """Name of the video or sequence, and of the source of its frames."""
    started: str
    """Time of its first frame, RFC 3339."""
    interval_s: float
    frames: int | None
    """Number of frames; None: unknown until the video is read."""
    sent: int = 0
    state: JobState = JobState.RUNNING
    error: str | None = None
    idempotency_key: str | None = None
    """Key with which a repeated request finds the job."""


class Jobs:
    """The jobs of one server; thread-safe."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        *,
        options: PublishOptions | None = None,
        board: Board | None = None,
        clock: Clock = utc_now,
    ) -> None:
        """Reads the jobs of an earlier server; `resume` continues them."""
        self._settings = settings
        self._store = store
        self._options = options
        self._board = board
        self._clock = clock
        self._folder = settings.jobs_dir
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._running: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._closing = False
        for file in sorted(self._folder.glob("*.json")):
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
                self._jobs[document["id"]] = Job(**{**document, "state": JobState(document["state"])})
            except (OSError, ValueError, KeyError, TypeError) as error:
                LOG.warning("%s is not a job and is ignored: %s", file, type(error).__name__)

    def start(self, video: str, interval_s: float, idempotency_key: str | None) -> Job:
        """Starts to play a video, or returns the job that was started with the same key.

        Raises:
            ConfigurationError: There is no such video.
            TransientError: Too many jobs are running.
        """
        started = self._clock()
        found = find_stored_video(self._settings, video, Pace(started, interval_s))
        with self._changed:
            for job in self._jobs.values():
                if idempotency_key and (job.idempotency_key, job.video) == (idempotency_key, video):
                    return job
            if len(self._running) >= MOST_RUNNING:
                raise TransientError(f"{MOST_RUNNING} videos are being played already.", next_step="try again later")
            job = Job(
                uuid4().hex, video, started.isoformat(), interval_s, found.expected, idempotency_key=idempotency_key
            )
            self._save(job)
            self._play(job)
            return job

    def resume(self) -> None:
        """Continues the jobs that were running when the previous server ended."""
        with self._changed:
            for job in [job for job in self._jobs.values() if job.state is JobState.RUNNING]:
                self._play(job)

    def get(self, job_id: str) -> Job | None:
        """Returns a job; None if there is none."""
        return self._jobs.get(job_id)

    def wait(self, job_id: str) -> Job:
        """Waits until a job has ended, and returns it."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._jobs[job_id].state is not JobState.RUNNING)
            return self._jobs[job_id]

    def stop(self, job_id: str) -> Job:
        """Ends a job after its captured frames are announced."""
        if running := self._running.get(job_id):
            running[0].set()
        return self.wait(job_id)

    def close(self) -> None:
        """Interrupts all jobs; the next server continues them."""
        with self._changed:
            self._closing = True
            running = list(self._running.values())
            self._changed.notify_all()
        for stop, _ in running:
            stop.set()
        for _, thread in running:
            thread.join()

    def _play(self, job: Job) -> None:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(job, stop), name=f"play {job.video}", daemon=True)
        self._running[job.id] = (stop, thread)
        thread.start()

    def _run(self, job: Job, stop: threading.Event) -> None:
        try:
            pace = Pace(datetime.fromisoformat(job.started), job.interval_s)
            source = PlayedVideo(find_stored_video(self._settings, job.video, pace), pace, first=job.sent)
            watch = self._board.watch(source.name, source.kind) if self._board else None
            totals = ingest_source(self._settings, source, stop=stop, options=self._options, store=self._store,
                             progress=self._saver(job), watch=watch)  # fmt: skip
            state = JobState.DONE if not stop.is_set() else JobState.STOPPED
            if self._closing and state is JobState.STOPPED:
                state = JobState.RUNNING  # so that the next server continues it
            ended = replace(job, sent=job.sent + totals.announced, state=state)
        except ImgpipelineError as error:
            ended = replace(self._jobs[job.id], state=JobState.FAILED, error=error.message)
        except Exception as error:  # a defect must end the job, not only its thread
            LOG.exception("playing %s", job.video)
            ended = replace(self._jobs[job.id], state=JobState.FAILED, error=f"{type(error).__name__}: {error}")
        with self._changed:
            del self._running[job.id]
            try:
                self._save(ended)
            except ConfigurationError as error:  # requests that wait for the job must get an answer even so
                LOG.error("%s", error)  # noqa: TRY400 - a stack adds nothing
                self._remember(ended)

    def _saver(self, job: Job) -> Callable[[Totals], None]:
        saved_s = monotonic()

        def save(totals: Totals) -> None:
            nonlocal saved_s
            if monotonic() - saved_s >= _SAVE_S:
                saved_s = monotonic()
                with self._changed:
                    self._save(replace(job, sent=job.sent + totals.announced))

        return save

    def _save(self, job: Job) -> None:
        file = self._folder / f"{job.id}.json"
        unfinished = file.with_suffix(".unfinished")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(asdict(job)), encoding="utf-8")
            unfinished.replace(file)
        except OSError as error:
            raise ConfigurationError(
                f"The job cannot be stored in {self._folder}: {error.strerror}.",
                next_step="set IMGPIPELINE_JOBS_DIR to a folder that this user may write",
            ) from error
        self._remember(job)

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        self._changed.notify_all()


def add_classic(app: FastAPI, settings: Settings, jobs: Jobs, allow: Allow) -> None:
    """Adds the routes."""
    _add_start(app, settings, jobs, allow)
    _add_jobs(app, jobs, allow)
    name = read_variable("SERVICE_NAME") or "data_generator"

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
            "dataset_path_configured": root is not None,
            "dataset_path_exists": root is not None and root.exists(),
        }

    @app.get("/data_status", tags=["data generator"])
    def data_status(request: Request) -> Response:
        """Shows what the data set contains."""
        allow(request, None)
        error = {} if settings.dataset_root else {"error": "DATASET_ROOT_DIR is not set."}
        return JSONResponse(_describe_data(settings) | error, 400 if error else 200)


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
    found = [name for name in _SUBFOLDERS if root and (root / name).is_dir()]
    sequences = sorted(p.name for p in (root / "sequences").iterdir()) if root and "sequences" in found else []
    return {
        "dataset_path": str(root) if root else None,
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
