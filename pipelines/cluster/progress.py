"""Following a run: a line per step that begins or ends, and why one waits or failed."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import typer

from components.shared import kubeflow
from components.shared.errors import UserError
from pipelines.cluster import logs
from pipelines.cluster.client import Client, ClusterError

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_WORDS = {"SUCCEEDED": "done", "FAILED": "failed", "CANCELED": "cancelled", "RUNNING": "running"}
_PAUSE = 5.0
"""Seconds between two looks at a run."""
_OUTAGE = 600.0
"""Seconds without an answer after which following ends; the run goes on."""
_TAIL = 20
_NO_TIME = ("1970-01-01", "0001-01-01")  # a run's and a task's that is not there yet


class RunEndedBadlyError(UserError):
    """The run failed or was cancelled; the message holds step, cause and last lines."""


def follow(client: Client, run_id: str, pause: float = _PAUSE) -> None:
    """Print the run's progress until it has succeeded, looking each `pause` seconds.

    Raises: RunEndedBadlyError, ClusterError if the API has not answered for ten minutes.
    """
    shown: dict[str, str] = {}
    answered = time.monotonic()
    while True:
        try:
            run = client.get(f"runs/{run_id}")
            answered = time.monotonic()
        except ClusterError as error:  # a forwarded port breaks now and then
            is_final = 0 < error.status < 500
            if is_final or time.monotonic() - answered > _OUTAGE:
                raise
            time.sleep(pause)
            continue
        _show_changes(_states(run), shown)
        _show_changes({f"{step}, its pod": text for step, text in _messages(client, run).items()}, shown)
        if run.get("state") in ENDED:
            break
        time.sleep(pause)
    if run["state"] != "SUCCEEDED":
        raise RunEndedBadlyError(failure(client, run))


def _show_changes(texts: Mapping[str, str], shown: dict[str, str]) -> None:
    for subject, text in texts.items():
        constant = re.sub(r"\d+", "", text)  # seconds, and the pods of further attempts
        if shown.get(subject) != constant:
            typer.echo(f"{subject}: {text}")
        shown[subject] = constant


def _states(run: dict[str, Any]) -> dict[str, str]:
    """Return how the latest attempt of each step stands."""
    states = {}
    for task in kubeflow.steps(run):
        if word := _WORDS.get(task.get("state", "")):
            took = "" if word == "running" else f" after {duration(task):.0f} s"
            states[task["display_name"]] = word + took
    return states


def duration(timed: dict[str, Any]) -> float:
    """Return the seconds that a run or task took, or takes so far."""
    begun = timed.get("start_time") or timed.get("created_at")
    ended = timed.get("end_time") or timed.get("finished_at")
    if not begun or begun.startswith(_NO_TIME):
        return 0
    end = datetime.now(UTC) if not ended or ended.startswith(_NO_TIME) else datetime.fromisoformat(ended)
    return (end - datetime.fromisoformat(begun)).total_seconds()


def _messages(client: Client, run: dict[str, Any]) -> dict[str, str]:
    """Return what `logs.messages` finds; nothing if Kubernetes cannot be asked from here."""
    try:
        return logs.messages(client.namespace, run["run_id"])
    except Exception:  # no configuration, network or right: each library has errors of its own
        return {}


def failure(client: Client, run: dict[str, Any]) -> str:
    """Return which step of the ended `run` failed, why, and what it printed last."""
    link = client.link(f"runs/details/{run['run_id']}")
    step = kubeflow.failing_step(run)
    if run["state"] != "FAILED" or not step:
        return f"the run ended as {run['state']}; see {link}"
    try:
        lines = logs.read(client, run, step)
    except ClusterError:
        lines = []
    why = logs.cause(lines) or _messages(client, run).get(step) or "it left no log"
    tail = [f"  {line}" for line in lines[-_TAIL:]]
    whole = f"The whole log: recllm logs {run['run_id']} {step}"
    return "\n".join([f"step '{step}' failed: {why}", *tail, whole, f"The run: {link}"])
