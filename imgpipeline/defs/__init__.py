"""The Dagster side: assets, the detection job, sensors, and nothing that could be run without Dagster.

Owns wiring: what is asked of the core, with which partition, and how its answers look in the UI. What a frame, a
segment or a table is belongs to the packages below, none of which imports Dagster.
"""
