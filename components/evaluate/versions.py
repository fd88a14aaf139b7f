"""Two registered versions, compared user by user by what their evaluations recorded."""

import tempfile
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from mlflow import MlflowClient

from components.evaluate.comparison import holm, interval, p_value, resampled_means
from components.shared.errors import ConfigError, full_disk_named
from components.shared.tracking import mlflow_client, registry
from components.shared.tracking.failures import readable_errors
from data_contracts.evaluation import TRAINED_MODEL, USERS
from data_contracts.metrics import TITLES, USER_METRICS, format_metric

KEYS = ["user_id", "position", "labels"]
CONFIDENCE, SAMPLES, SEED = 0.95, 10_000, 0


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One metric of both versions, second minus first, and Holm's p over the metrics."""

    metric: str
    first: str
    second: str
    difference: str
    interval: str
    p_holm: str


def compare(tracking_uri: str, model_name: str, first: str, second: str) -> tuple[list[Compared], int]:
    """Return every metric of both versions (numbers or aliases), and the users they share.

    Users are paired where both evaluations asked for the same labels at the same position of their sequence.
    Raises ConfigError: no such version, one without recorded values, or no shared users; OutputError: a
    disk is full.
    """
    client = mlflow_client.connect(tracking_uri)
    with full_disk_named("a temporary copy of the values"), readable_errors(client.tracking_uri):
        # Both at one moment: a promotion in between could make them the same version.
        found = registry.resolve(client, model_name, first, second)
        values = [_values(client, model_name, version) for version in found]
    joined = values[0].add_suffix(" 1").join(values[1].add_suffix(" 2"), how="inner")
    if joined.empty:
        raise ConfigError(
            f"{model_name}: versions {first} and {second} were evaluated on different users or labels; "
            "evaluate the newer data with a champion, and the report compares them"
        )
    sides = [joined[[f"{metric} {side}" for metric in USER_METRICS]].to_numpy().T for side in (1, 2)]
    means = resampled_means(sides[1] - sides[0], SAMPLES, SEED)
    corrected = holm([p_value(resampled) for resampled in means])
    rows = []
    for i, metric in enumerate(USER_METRICS):
        bounds, (one, two) = interval(means[i], CONFIDENCE), (side[i].mean() for side in sides)
        rows.append(
            Compared(
                metric=TITLES[metric],
                first=format_metric(metric, one),
                second=format_metric(metric, two),
                difference=f"{two - one:+.4f}",
                interval=f"{bounds.low:+.4f} to {bounds.high:+.4f}",
                p_holm=f"{corrected[i]:.2g}",
            )
        )
    return rows, len(joined)


def _values(client: MlflowClient, model_name: str, version: str) -> pd.DataFrame:
    """Return the trained model's values, indexed by user and position."""
    run_id = client.get_model_version(model_name, version).run_id
    if not run_id or USERS not in registry.recorded(client, run_id):
        raise ConfigError(
            f"{model_name} version {version} has no {USERS}: its run is deleted, or it was registered by "
            "another way, or by an older version of the project"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = registry.download(client, run_id, USERS, folder)
        try:
            table = pd.read_parquet(
                path, columns=[*KEYS, *USER_METRICS], filters=[("model", "==", TRAINED_MODEL)]
            )
        except pa.ArrowInvalid as error:
            raise ConfigError(
                f"{model_name} version {version}: its {USERS} cannot be read, or is of another version of "
                f"the project ({str(error).splitlines()[0]}); a run of the pipeline asks the champion again"
            ) from error
    return table.set_index(KEYS)
