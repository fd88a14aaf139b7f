"""Schedules: one per name, replaced without a gap or a double, never at the cost of a running run."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import typer

from components.shared.artifacts.fingerprint import of_text
from components.shared.errors import ConfigError
from pipelines.cluster import crons, tables
from pipelines.cluster.client import Client
from pipelines.cluster.submit import Version

_PREFIX = "recllm-r1 "
_KEYS = (
    "display_name",
    "description",
    "experiment_id",
    "pipeline_version_reference",
    "runtime_config",
    "trigger",
    "max_concurrency",
    "no_catchup",
)
"""What a copy of a schedule takes over."""


def put(client: Client, name: str, cron: str, version: Version, data: str) -> None:
    """Schedule `version` on `data` as `name`; print the next times.

    `cron` has five fields. Raises: ConfigError: it has a mistake.
    """
    job = {
        "display_name": _PREFIX + name,
        "max_concurrency": "1",
        "no_catchup": True,
        "trigger": {"cron_schedule": {"cron": crons.translate(cron)}},
        **version.job(data),
    }
    # A schedule embeds the images of its backend, so that another release of that makes another schedule.
    release = client.get("healthz").get("tag_name", "")
    fingerprint = of_text(json.dumps(job, sort_keys=True), release)
    job["description"] = f"{cron} UTC: {version.name} ({fingerprint})"
    existing = _named(client, name)
    kept = [one for one in existing if one["description"] == job["description"] and _is_enabled(one)][:1]
    if kept:
        _delete(client, [one for one in existing if one is not kept[0]])
    else:
        _replace(client, existing, job)
    typer.echo(f"schedule '{name}': {version.name} at '{cron}' UTC, one run at a time")
    for time in crons.following(cron, datetime.now(UTC)):
        typer.echo(f"  {time:%a %Y-%m-%d %H:%M} UTC")


def _replace(client: Client, existing: list[dict[str, Any]], job: dict[str, Any]) -> None:
    """Put the schedule `job` in the place of `existing`.

    The new one is disabled until the old are gone, so that no time is served by two. A time between the two
    requests is not lost: enabling serves the latest that has passed since the creation. Killed at any
    point, the same command begins again and removes what it finds.
    """
    new = client.post("recurringruns", {**job, "mode": "DISABLE"})
    _delete(client, existing)
    client.post(f"recurringruns/{new['recurring_run_id']}:enable", {})


def _delete(client: Client, schedules: list[dict[str, Any]]) -> None:
    for one in schedules:
        # By default the run that is going on would be deleted as well, and be RUNNING for ever in the list.
        client.delete(f"recurringruns/{one['recurring_run_id']}", propagation_policy="ORPHAN")


def pause(client: Client, name: str) -> None:
    """Let the schedule called `name` start no more runs; a running one goes on."""
    for one in _existing(client, name):
        client.post(f"recurringruns/{one['recurring_run_id']}:disable", {})


def resume(client: Client, name: str) -> None:
    """Let the paused schedule called `name` go on with its next time.

    It is replaced by a copy: Kubeflow Pipelines would at once make up for the latest time that it missed.
    """
    existing = _existing(client, name)
    if any(_is_enabled(one) for one in existing):
        return
    _replace(client, existing, {key: existing[0][key] for key in _KEYS})


def delete(client: Client, name: str) -> None:
    """Delete the schedule called `name`; a running run goes on."""
    _delete(client, _existing(client, name))


def show(client: Client) -> None:
    """Print the project's schedules and the next time of each."""
    tables.show(("schedule", "what", "state", "next (UTC)", "data"), map(_row, _all(client)))


def _row(schedule: dict[str, Any]) -> tuple[str, ...]:
    what = re.sub(r" \(\w+\)$", "", schedule["description"])
    state, following = "paused", ""
    if _is_enabled(schedule):
        state = "enabled"
        (time,) = crons.following(what.partition(" UTC: ")[0], datetime.now(UTC), 1)
        following = f"{time:%Y-%m-%d %H:%M}"
    data = schedule["runtime_config"]["parameters"]["data"]
    return schedule["display_name"].removeprefix(_PREFIX), what, state, following, data


def _is_enabled(schedule: dict[str, Any]) -> bool:
    return schedule.get("status") == "ENABLED"


def _all(client: Client) -> list[dict[str, Any]]:
    found = client.pages("recurringruns", "recurringRuns", page_size=100)
    return [one for one in found if one["display_name"].startswith(_PREFIX)]


def _named(client: Client, name: str) -> list[dict[str, Any]]:
    return [one for one in _all(client) if one["display_name"] == _PREFIX + name]


def _existing(client: Client, name: str) -> list[dict[str, Any]]:
    if found := _named(client, name):
        return found
    others = ", ".join(sorted(one["display_name"].removeprefix(_PREFIX) for one in _all(client)))
    raise ConfigError(f"no schedule '{name}'; there is {others or 'none'}")
