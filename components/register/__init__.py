"""Model versions in MLflow: register a challenger, fetch the champion, promote and roll back."""

import os

# Read when mlflow is imported, which every other module here does after this line.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
