"""`identity`: copies every line of the input unchanged, and proves it.

A line is what Hadoop takes for one (`lines`) and ends with LF in the output; its bytes may be anything. Lines keep the
order of the files' names and of their positions; Hadoop leaves the order open (with a reducer it sorts them).

The proof: lines are counted and hashed while they are read, and again when the written file is read back. Output to
stdout cannot be read back.
"""

from dataclasses import dataclass
from hashlib import sha256

from imgpipeline.compat.mapreduce.inputs import find_job_inputs
from imgpipeline.compat.mapreduce.lines import BLOCK_BYTES, read_blocks
from imgpipeline.errors import PermanentError
from imgpipeline.objectstore.outputs import STDOUT, open_output, write
from imgpipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Identity:
    """The result of the job."""

    files: int
    """Files read."""
    lines: int
    """Lines read and written."""
    sha256: str
    """SHA-256 of all lines, each with its LF: 64 hexadecimal digits."""
    read_back: bool
    """Whether the output was read back and compared."""


def copy_lines(location: str, output: str, settings: Settings) -> Identity:
    """Copies all lines and proves that the output holds the same lines.

    Args:
        location: What to read, as for `find_job_inputs`.
        output: A file, or `-` for stdout.
        settings: Name the S3 server, for `s3://`.

    Returns:
        What was copied.

    Raises:
        ConfigurationError: The input or the output folder does not exist.
        PermanentError: A file cannot be read or written, or the output differs from what was written.
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
                    f"with {digest.hexdigest()}: the disk did not store what was written.",
                    next_step="check that disk, and run the job again",
                )
    return Identity(len(inputs), lines, digest.hexdigest(), output != STDOUT)
