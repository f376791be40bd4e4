"""Looking at stored pictures again with another model, and comparing what models find.

Owns `redetections/…` and the summary `model_comparison`. It promises that the live result stays as it is, that every
frame of a day has an outcome, and that nothing but the store is shared by those who work on one day. Dagster's assets
belong to `defs`.
"""
