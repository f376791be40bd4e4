"""The command `imgpipeline`: one module a group of commands.

Owns arguments, tables, JSON and exit statuses. It promises that a command's data are on stdout and all else on stderr,
that with `--json` stdout is exactly one JSON document, that an error is one message with its next step and exit status
1, and that no secret is shown. What a command does belongs to the package it calls; that is imported inside the
command, so that `--help` answers at once.
"""

from imgpipeline.cli.app import main

__all__ = ["main"]
