"""The first task of a run: its preflight, its data window, and the key it is known by."""

import components.shared.tracking  # noqa: F401  its settings are read when mlflow is imported
