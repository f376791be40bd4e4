"""Runs the command as `python -m imgpipeline.cli`, without the installed script `imgpipeline`."""

from imgpipeline.cli.app import main

main()
