"""Re-processes stored images with another model, and compares the results of models.

Stores `redetections/…` and the summary `model_comparison`. The live result does not change, every frame of a day gets
an outcome, and processes that work on the same day share only the store. Dagster's assets are in `defs`.
"""
