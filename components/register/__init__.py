"""Model versions in MLflow: register a challenger, fetch the champion, promote and roll back."""

import components.shared.tracking  # noqa: F401  its settings are read when mlflow is imported
