"""The command `imgpipeline`: one module per group of commands.

Data goes to stdout, everything else to stderr. With `--json`, stdout is exactly one JSON document. An error is one
message with a next step, exit status 1 and no secrets. A module is imported when one of its commands is called, so
`--help` is fast.
"""

from imgpipeline.cli.app import main

__all__ = ["main"]
