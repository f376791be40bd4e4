"""What Celery workers need: the folder of this file has to be on PYTHONPATH. Nothing secret in this file."""

import os

_LONGER_THAN_RUNS_S = 7 * 86_400

broker_url = os.environ["IMGPIPELINE_CELERY_BROKER"]
result_backend = os.environ["IMGPIPELINE_CELERY_BACKEND"]
result_expires = _LONGER_THAN_RUNS_S
broker_transport_options = {"visibility_timeout": _LONGER_THAN_RUNS_S}
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# The result of a task that ends while Redis is away is stored later.
result_backend_transport_options = {"retry_policy": {"max_retries": 90}}
worker_prefetch_multiplier = 1
# A message that a worker holds for later would be lost with that worker, until `visibility_timeout`.
worker_disable_prefetch = True
task_default_queue = "tables"
# Loaded once, before the worker forks the processes that execute runs: none of them loads these for its first run.
# No module that starts threads belongs here: a fork would not have them.
imports = ("imgpipeline.definitions", "dagster_postgres", "dagster_aws.s3.compute_log_manager")
