"""The command `imgpipeline`: one module per group of commands.

Data goes to stdout and everything else to stderr. With `--json`, stdout is exactly one JSON document. An error is one
message with its next step and exit status 1, without secrets. The code behind a command is imported inside the command,
so that `--help` answers at once.
"""

from imgpipeline.cli.app import main

__all__ = ["main"]
