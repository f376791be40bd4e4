"""The demo: the whole pipeline on built-in defaults, and its proof.

`imgpipeline demo` runs a broker in memory, a folder as store, Dagster with webserver and daemon, images (simulated with
exact truth, or the user's own), and the verdict. It takes no short cuts: sensor, runs, ledger, day tables and audit are
those of any deployment.
"""

from imgpipeline.demo.run import run_demo

__all__ = ["run_demo"]
