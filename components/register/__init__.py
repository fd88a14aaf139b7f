"""Model versions in MLflow: register a challenger, fetch the champion, promote and roll back."""

import os

# Read when mlflow is imported, which every other module here does after these lines.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
