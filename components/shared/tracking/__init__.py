"""MLflow: client, run tracking and registry."""

import os

# Read when mlflow is imported, which every module here does after these lines.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

PIPELINE_RUN = "RECLLM_PIPELINE_RUN"
"""Environment variable with the pipeline's run id, by which its steps find its MLflow run."""
