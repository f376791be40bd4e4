"""The demo: the main job on embedded defaults, and its proof.

Owns what `imgpipeline demo` does: a broker in memory, a folder as store, Dagster with webserver and daemon, pictures
(simulated with exact truth, or the user's own), and the verdict. Nothing of the pipeline is short-cut: sensor, runs,
ledger, day tables and audit are those of any deployment.
"""

from imgpipeline.demo.run import run_demo

__all__ = ["run_demo"]
