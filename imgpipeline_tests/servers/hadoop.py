"""The real Hadoop Streaming in its local runner: a job is one Java process, which starts mappers and reducers."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgpipeline_tests.servers.processes import dying_with_parent
from imgpipeline_tests.servers.programs import hadoop_jars, java

_LIMIT_S = 240


class HadoopStreaming:
    """Runs jobs, one at a time; each starts a Java process of its own, which takes some three seconds."""

    def __init__(self, work_dir: Path, *, heap_mb: int = 512, parallel_maps: int = 1) -> None:
        """Prepare; nothing is started.

        Args:
            work_dir: Folder for Hadoop's temporary files.
            heap_mb: Memory of the Java process.
            parallel_maps: How many mappers run at a time; with several the order of equal keys is open.

        Raises:
            MissingProgramError: Java or Hadoop's jars are not installed: `make servers`.
        """
        self.work_dir = work_dir
        self._java = [java(), f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
        self._java += ["-cp", f"{hadoop_jars()}/*", "org.apache.hadoop.streaming.HadoopStreaming"]
        self._parallel_maps = parallel_maps

    def run(
        self,
        source: Path,
        target: Path,
        mapper: str,
        reducer: str | None,
        *,
        options: Mapping[str, str | int] | None = None,
        limit_s: float = _LIMIT_S,
    ) -> bytes:
        """Run a job and return its output: all part files, concatenated.

        Args:
            source: File or folder to read.
            target: Folder to write, which must not exist.
            mapper: Command line of the mapper.
            reducer: Command line of the reducer; None: the mappers' output is the job's.
            options: Hadoop's own settings.
            limit_s: How long it may take.

        Raises:
            RuntimeError: The job failed; the message has the end of its log.
        """
        done = subprocess.run(
            dying_with_parent(self.command(source, target, mapper, reducer, options=options)),
            cwd=self.work_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit_s,
            check=False,
        )
        if done.returncode or not (target / "_SUCCESS").exists():
            raise RuntimeError(f"Hadoop ended with {done.returncode}: {done.stdout[-4000:].decode(errors='replace')}")
        return b"".join(part.read_bytes() for part in sorted(target.glob("part-*")))

    def command(
        self, source: Path, target: Path, mapper: str, reducer: str | None, *, options: Mapping[str, str | int] | None
    ) -> list[str]:
        """Return the command line of a job; the arguments are those of `run`."""
        command = [*self._java, *self._options(reducer, options or {}), "-input", source, "-output", target]
        command += ["-mapper", mapper, *(["-reducer", reducer] if reducer else [])]
        return [str(part) for part in command]

    def _options(self, reducer: str | None, more: Mapping[str, str | int]) -> Sequence[str]:
        settings: dict[str, object] = {
            "mapreduce.framework.name": "local",
            "fs.defaultFS": "file:///",
            "hadoop.tmp.dir": self.work_dir / "tmp",
            "mapreduce.cluster.local.dir": self.work_dir / "local",
            "mapreduce.local.map.tasks.maximum": self._parallel_maps,
            "mapreduce.job.reduces": 1 if reducer else 0,
            **more,
        }
        return [part for name, value in settings.items() for part in ("-D", f"{name}={value}")]
