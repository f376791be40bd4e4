"""What Celery workers need: the folder of this file has to be on PYTHONPATH. Nothing secret in this file."""

import os

_LONGER_THAN_RUNS_S = 7 * 86_400

broker_url = os.environ["IMGPIPELINE_CELERY_BROKER"]
result_backend = os.environ["IMGPIPELINE_CELERY_BACKEND"]
result_expires = _LONGER_THAN_RUNS_S
broker_transport_options = {"visibility_timeout": _LONGER_THAN_RUNS_S}
broker_connection_retry_on_startup = True
worker_prefetch_multiplier = 1
task_default_queue = "tables"
