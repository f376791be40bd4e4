"""`identity`: every line of the input, unchanged, and the proof of it.

Owns the job. A line is what Hadoop takes for one (`lines`), and ends with LF in the output; nothing else is changed, so
that lines may hold anything, also what is no text. Lines come in the order of the files' names and of their places in
them; Hadoop leaves their order open (with a reducer it sorts them).

The proof: lines are counted and hashed as they are read. The written file is then read back from its beginning, and
its lines are counted and hashed again. What goes to stdout cannot be read back; there only the first half is told.
"""

from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.compat.mapreduce.inputs import find_job_inputs
from imgpipeline.compat.mapreduce.lines import BLOCK_BYTES, read_blocks
from imgpipeline.compat.mapreduce.outputs import STDOUT, open_output, write
from imgpipeline.errors import PermanentError
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    """What was copied."""

    files: int
    """Files that were read."""
    lines: int
    """Lines that were read, and written."""
    sha256: str
    """SHA-256 of all lines, each with its LF: 64 hexadecimal digits."""
    read_back: bool
    """Whether the output was read back and found to be the same."""


def copy_lines(location: str, output: str, settings: Settings) -> Identity:
    """Copies all lines and proves that the output holds the same.

    Args:
        location: What to read, as `find_job_inputs` takes it.
        output: A file, or `-` for stdout.
        settings: Name the S3 server, for `s3://`.

    Returns:
        What was copied.

    Raises:
        ConfigurationError: Input or output do not exist.
        PermanentError: A file cannot be read or written, or what was read back is not what was written.
        TransientError: The store does not answer.
    """
    inputs = find_job_inputs(location, settings)
    lines, digest = 0, sha256()
    with open_output(output, inputs) as stream:
        for block in read_blocks(inputs):
            lines += block.count(b"\n")
            digest.update(block)
            write(stream, block)
        if output != STDOUT:
            stream.seek(0)
            found_lines, found = 0, sha256()
            while data := stream.read(BLOCK_BYTES):
                found_lines += data.count(b"\n")
                found.update(data)
            if (found_lines, found.digest()) != (lines, digest.digest()):
                raise PermanentError(
                    f"{output} holds {found_lines} lines with the SHA-256 {found.hexdigest()}, expected {lines} lines "
                    f"with {digest.hexdigest()}: the disk did not keep what was written.",
                    next_step="check that disk, and run the job again",
                )
    return Identity(len(inputs), lines, digest.hexdigest(), output != STDOUT)
