"""Submitting a run: checked, compiled, uploaded once per commit, started."""

import itertools
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from components.shared.artifacts.fingerprint import of_text
from components.shared.artifacts.storage import is_remote
from components.shared.errors import ConfigError
from pipelines import dag, lineage
from pipelines.cluster.client import Client
from pipelines.profile import Profile

PIPELINE = "recllm-r1"


@dataclass(frozen=True)
class Version:
    """An uploaded version of the pipeline, as runs and schedules refer to it."""

    name: str
    pipeline_id: str
    version_id: str
    experiment_id: str
    service_account: str

    def job(self, data: str) -> dict[str, Any]:
        """Return what a run and a schedule of this version on `data` have in common."""
        account = {"service_account": self.service_account} if self.service_account else {}
        return {
            "experiment_id": self.experiment_id,
            "pipeline_version_reference": {
                "pipeline_id": self.pipeline_id,
                "pipeline_version_id": self.version_id,
            },
            "runtime_config": {"parameters": {"data": data}},
            **account,
        }


def check(profile: Profile, name: str, data: str) -> None:
    """Refuse what would fail, as far as this machine can tell; print what it cannot.

    Raises: ConfigError listing every fault.
    """
    from components.window import preflight

    placement = profile.on_cluster(name)
    if not is_remote(data):
        if not profile.sequences.spark.is_local:
            raise ConfigError(
                f"--data {data}: the executors of sequences.spark.master mount no volume; give an s3:// URI"
            )
        for step in ("window", "sequences"):
            if not getattr(placement, step).mounts(data):
                raise ConfigError(
                    f"--data {data}: pods do not see it; give an s3:// URI, or a path on a volume that "
                    f"`window` and `sequences` have (`{step}` has none there)"
                )
    checks = preflight.from_outside(lineage.window_config(profile, name), data)
    preflight.require(checks)
    for unknown in (found for found in checks if found.status == "not checked"):
        typer.echo(f"{unknown.title}: not checked here ({unknown.detail})")


def upload(client: Client, profile: Profile, name: str, *, cached: bool = True) -> Version:
    """Return this commit's version of the profile called `name`, uploaded unless there.

    Raises: ConfigError if the images' commit is not known, ClusterError.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        dag.compile_to(package, profile, name, cached=cached)
        pipeline_id = _pipeline(client)
        title = f"{name}@{lineage.git_commit()[:12] or 'unknown'}"
        version = _version(client, pipeline_id, package, title)
    return Version(
        name=version["display_name"],
        pipeline_id=pipeline_id,
        version_id=version["pipeline_version_id"],
        experiment_id=_experiment(client, profile.register.experiment),
        service_account=profile.placement.service_account if profile.placement else "",
    )


def start(client: Client, version: Version, data: str) -> str:
    """Return the id of a new run of `version` on `data`."""
    title = f"{version.name} {datetime.now(UTC):%Y-%m-%d %H:%M}"
    return client.post("runs", {"display_name": title, **version.job(data)})["run_id"]


def find_pipeline(client: Client) -> str:
    """Return the id of the project's pipeline; "" before the first upload."""
    found = client.pages("pipelines", "pipelines")
    return next((one["pipeline_id"] for one in found if one["display_name"] == PIPELINE), "")


def versions_of(client: Client, pipeline_id: str) -> list[dict[str, Any]]:
    """Return the pipeline's versions as the API describes them."""
    return list(client.pages(f"pipelines/{pipeline_id}/versions", "pipeline_versions", page_size=100))


def _pipeline(client: Client) -> str:
    named = {"name": PIPELINE, "display_name": PIPELINE}
    return find_pipeline(client) or client.post("pipelines", {**named, **client.owner})["pipeline_id"]


def _version(client: Client, pipeline_id: str, package: Path, title: str) -> dict[str, Any]:
    """Return the version whose description is the fingerprint of `package`, or a new one.

    One commit gives several with another --as-of or --no-cache: title, title-2, …
    """
    fingerprint = of_text(package.read_text(encoding="utf-8"))
    versions = {one["display_name"]: one for one in versions_of(client, pipeline_id)}
    for number in itertools.count(1):
        name = title if number == 1 else f"{title}-{number}"
        if name not in versions:
            break
        if versions[name].get("description") == fingerprint:
            return versions[name]
    return client.upload(
        "pipelines/upload_version",
        package,
        name=re.sub(r"[^a-z0-9.-]+", "-", name.lower()),  # Kubernetes may store it under this name
        display_name=name,
        pipelineid=pipeline_id,
        description=fingerprint,
    )


def _experiment(client: Client, name: str) -> str:
    found = client.pages("experiments", "experiments")
    for one in found:
        if one["display_name"] == name and one.get("storage_state") != "ARCHIVED":
            return one["experiment_id"]
    return client.post("experiments", {"display_name": name, **client.owner})["experiment_id"]
