"""The derived objects of a day, all in one place: which of them are due, and how a day is built.

`states.day_states` is the only function that decides what is stale. It compares the store with itself; Dagster, the
viewer and the commands ask it. `pace.plan` decides what is built when, and `build.build_day` builds.
"""
