"""The soak: the whole pipeline under a steady stream and random faults, then the proof that nothing is lost or doubled.

`make soak MINUTES=10`, or `python -m imgpipeline_tests.soak`. Owns the place (real servers, the real daemon), the
producers, the faults and the report. The promise that is checked is `faults.invariant`'s.
"""
