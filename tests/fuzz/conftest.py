"""The Spark session, the generated log and the step of the data steps' tests."""

from tests.components.etl.conftest import run_step, sample_folder, spark  # noqa: F401
