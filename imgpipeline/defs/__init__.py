"""Everything that needs Dagster: assets, jobs, sensors and schedules.

These modules only wire the other packages to Dagster: which function is called for which partition, and how its results
look in the UI. None of the other packages imports Dagster.
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
