"""The Dagster side: assets, the detection job, sensors, and nothing that could be run without Dagster.

Owns wiring: what is asked of the core, with which partition, and how its answers look in the UI. What a frame, a
segment or a table is belongs to the packages below, none of which imports Dagster.
"""

import gc
import warnings

import dagster as dg

# Each run is a process that begins by importing Dagster. What was imported stays; without this, garbage collections go
# through all of it again: while the definitions are made, in the run, and when the process ends.
gc.freeze()

# Each command of Dagster would print them. What is used in beta is pinned by the version of dagster, and tested.
warnings.filterwarnings("ignore", r"Parameter `(backfill_policy|owners|use_user_code_server)`", category=dg.BetaWarning)
warnings.filterwarnings("ignore", r"Class `MultiToSingleDimensionPartitionMapping`", category=dg.BetaWarning)
warnings.filterwarnings("ignore", r"Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning)
