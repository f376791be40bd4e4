"""A whole site from its compose file, without a container engine: `python -m imgpipeline_tests.compose`.

Each service runs with the command, environment, user, read-only root, volumes, secrets and health check that the
compose file says, in a sandbox of bubblewrap. What a sandbox cannot do is in `sandbox.NOT_RUN`.
"""
