"""`imgpipeline demo`: the whole pipeline on one machine with default settings, and a check of its counts.

It runs a Kafka broker in memory, an object store in a folder, Dagster and the viewer, on simulated images whose content
is known or on the user's own. Sensor, runs, ledger, day tables and audit are the same as in any deployment.
"""

from imgpipeline.demo.run import run_demo

__all__ = ["run_demo"]
