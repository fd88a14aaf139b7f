"""What the registry holds, for people: the versions with their headline figures, and the history."""

from dataclasses import dataclass

from mlflow import MlflowClient

from components.register.history import Promotion, read_entries
from components.shared.times import from_milliseconds
from components.shared.tracking import mlflow_client, registry
from components.shared.tracking.failures import readable_errors, unless_absent
from components.shared.tracking.registry import RUN_KEY
from data_contracts.evaluation import TRAINED_MODEL


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A version with its aliases, time, and NDCG@10 with its interval ("": unknown)."""

    version: str
    aliases: str
    registered: str
    ndcg_at_10: str
    run_key: str


def list_versions(tracking_uri: str, model_name: str) -> list[Listed]:
    """Return the versions of the model, newest first. Raises ConfigError: no such registry or model."""
    client = mlflow_client.connect(tracking_uri)
    with readable_errors(client.tracking_uri):
        registry.require_model(client, model_name)
        names: dict[str, list[str]] = {}
        for alias, version in sorted(registry.aliases(client, model_name).items()):
            names.setdefault(version, []).append(alias)
        return [
            Listed(
                version=str(found.version),
                aliases=", ".join(names.get(str(found.version), ())),
                registered=from_milliseconds(found.creation_timestamp),
                ndcg_at_10=_headline(client, found.run_id),
                run_key=found.tags.get(RUN_KEY, ""),
            )
            for found in reversed(registry.versions(client, model_name))
        ]


def _headline(client: MlflowClient, run_id: str | None) -> str:
    run = unless_absent(lambda: client.get_run(run_id)) if run_id else None
    figures = run.data.metrics if run else {}  # without a run: it has been deleted, the version stays
    names = [f"{TRAINED_MODEL}/ndcg_at_10{end}" for end in ("", "_low", "_high")]
    if not set(names) <= set(figures):
        return ""
    mean, low, high = (figures[name] for name in names)
    return f"{mean:.4f} [{low:.4f}, {high:.4f}]"


def history(tracking_uri: str, model_name: str) -> list[Promotion]:
    """Return the finished changes of the champion, oldest first. Raises as `list_versions`."""
    client = mlflow_client.connect(tracking_uri)
    with readable_errors(client.tracking_uri):
        return [entry.promotion for entry in read_entries(client, model_name) if entry.done]
