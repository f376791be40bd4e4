"""Tests of `imgpipeline.sinks`: one suite for all sinks, and what each one adds."""
