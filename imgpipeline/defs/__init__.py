"""Everything that needs Dagster: assets, jobs, sensors and schedules.

These modules only wire the other packages to Dagster: which function is called for which partition, and how its results
look in the UI. None of the other packages imports Dagster.
"""

import gc
import warnings

import dagster as dg

# Each run is a process that first imports Dagster. Without this, every garbage collection of the process would traverse
# all imported objects.
gc.freeze()

# Every Dagster command would print these warnings. The beta features in use are tested with the pinned version.
warnings.filterwarnings("ignore", r"Parameter `(backfill_policy|owners|use_user_code_server)`", category=dg.BetaWarning)
warnings.filterwarnings("ignore", r"Class `MultiToSingleDimensionPartitionMapping`", category=dg.BetaWarning)
warnings.filterwarnings("ignore", r"Specifying a partitions_def on an AssetCheckSpec", category=dg.PreviewWarning)
