"""The sequences step, which the importers are tested with."""

from tests.components.etl.conftest import run_step  # noqa: F401
