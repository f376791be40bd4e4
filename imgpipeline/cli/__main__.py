"""Runs the command as `python -m imgpipeline.cli`, where the script `imgpipeline` is not installed."""

from imgpipeline.cli.app import main

main()
