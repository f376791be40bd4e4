"""Tests of `imgpipeline.export`."""
