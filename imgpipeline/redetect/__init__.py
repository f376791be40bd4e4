"""Re-processes stored images with another model, and compares what models find.

Stores `redetections/…` and the summary `model_comparison`. The live result stays as it is, every frame of a day gets an
outcome, and processes that work on one day share nothing but the store. Dagster's assets are in `defs`.
"""
