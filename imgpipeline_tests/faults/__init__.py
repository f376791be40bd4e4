"""What the pipeline survives: a test for each fault of docs/reliability.md, each ending in `invariant.check`."""
