"""MLflow: client and run tracking."""
