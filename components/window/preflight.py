"""What a run needs, checked before it costs anything: every fault at once."""

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from components.shared import kubeflow
from components.shared.artifacts import raw_tables
from components.shared.artifacts.raw_sources import RawSource
from components.shared.artifacts.raw_tables import Source
from components.shared.artifacts.storage import Folder, is_remote
from components.shared.errors import ConfigError, DataError, UserError
from components.shared.tracking import failures, mlflow_client, registry
from components.window import cluster
from components.window.cluster import NotChecked
from components.window.config import ENDPOINT, PreflightConfig, WindowConfig

Status = Literal["ok", "failed", "not checked"]
Checks = dict[str, Callable[[], str]]

LIMIT = 10.0
"""Seconds after which a remote check that has no answer counts as failed."""
_PARTS = 3  # part files of a table that are opened, each a request or two; the step `sequences` opens all


@dataclass(frozen=True)
class Check:
    """What one check found: a fault a line, each with what to do."""

    title: str
    status: Status
    detail: str


def run(config: WindowConfig, data: str, placeholders: Sequence[str] = ()) -> list[Check]:
    """Return what every check found; without `data` that of the raw data is left out.

    `placeholders` are texts that the backend should have filled in.
    """
    here, remote = _local(config.preflight), _remote(config.preflight, placeholders)
    if data:
        check = partial(_data, config, data)
        if is_remote(data):
            remote["raw data"] = _as_seen_here(config.preflight, check)
        else:
            here["raw data"] = check
    (remote if mlflow_client.is_served(config.tracking_uri) else here)["MLflow"] = partial(_mlflow, config)
    return [_result(*check) for check in here.items()] + _at_once(remote)


def _local(wanted: PreflightConfig) -> Checks:
    """Return the checks of what lies on this machine, which may take its time."""
    checks: Checks = {}
    on_volume = any(Path(wanted.checkpoints).is_relative_to(path) for path in wanted.volumes)
    if wanted.checkpoints and not is_remote(wanted.checkpoints) and not on_volume:
        checks[f"folder {wanted.checkpoints}"] = partial(_folder, wanted.checkpoints)
    checks |= {f"volume {path}": partial(_volume, path) for path in wanted.volumes}
    if wanted.secrets:
        checks["secrets"] = partial(_environment, "secret generic", wanted.secrets)
    if wanted.config_maps:
        checks["config maps"] = partial(_environment, "configmap", wanted.config_maps)
    return checks


def _remote(wanted: PreflightConfig, placeholders: Sequence[str]) -> Checks:
    """Return the checks of what lies elsewhere; only they import their libraries."""
    checks: Checks = {}
    if uris := sorted({uri for uri in (wanted.root, wanted.checkpoints) if is_remote(uri)}):
        from components.window.object_store import round_trip

        for uri in uris:
            checks[f"storage {uri}"] = _as_seen_here(wanted, partial(round_trip, uri))
    unfilled = [text for text in placeholders if text.startswith(("{{", "[["))]
    if (wanted.cluster and kubeflow.endpoint()) or unfilled:
        checks["Kubeflow Pipelines"] = partial(cluster.check_version, unfilled)
    if wanted.gpus:
        checks["GPUs"] = partial(cluster.check_gpus, wanted.gpus)
    return checks


def from_outside(config: WindowConfig, data: str) -> list[Check]:
    """Return what the checks found that a machine outside the cluster can make as well.

    Names that only the cluster knows, its volumes and its secrets are left to the first task.
    """
    checks: Checks = {}
    if is_remote(data):
        # Also in a pod: a notebook's has not what the run's pods are given.
        checks["raw data"] = partial(_with_settings, config.preflight, partial(_data, config, data))
    if config.preflight.gpus:
        checks["GPUs"] = partial(cluster.check_gpus, config.preflight.gpus)
    return _at_once(checks)


def _is_outside(wanted: PreflightConfig) -> bool:
    """Return whether the run's pods have what this process lacks: secrets, and the cluster's names."""
    return wanted.cluster and not kubeflow.in_pod()


def _as_seen_here(wanted: PreflightConfig, check: Callable[[], str]) -> Callable[[], str]:
    """Return the `check` of object storage, left out where the pods' settings are missing."""
    return partial(_with_settings, wanted, check) if _is_outside(wanted) else check


def _with_settings(wanted: PreflightConfig, check: Callable[[], str]) -> str:
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        raise NotChecked("AWS_ACCESS_KEY_ID is not set; the first task checks it")
    if wanted.endpoint and not os.environ.get(ENDPOINT):  # another address may be the way from here
        raise NotChecked(f"{ENDPOINT} is not set, in the run {wanted.endpoint}; the first task checks it")
    return check()


def require(checks: Sequence[Check]) -> None:
    """Raise ConfigError with a line per fault, if there is any."""
    failed = [check for check in checks if check.status == "failed"]
    lines = [f"- {check.title}: {fault}" for check in failed for fault in check.detail.splitlines()]
    if lines:
        raise ConfigError("\n".join(["the run would fail, so it ends here:", *lines]))


def _at_once(checks: Checks) -> list[Check]:
    """Return what the checks found, in their order; none waits for another."""
    results: dict[str, Check] = {}

    def work(title: str, check: Callable[[], str]) -> None:
        results[title] = _result(title, check)

    # Threads of a pool would be waited for when the process ends.
    threads = [threading.Thread(target=work, args=one, daemon=True) for one in checks.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + LIMIT
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    silent = f"no answer within {LIMIT:.0f} s; is the address right, and can it be reached from here?"
    return [results.get(title) or Check(title, "failed", silent) for title in checks]


def _result(title: str, check: Callable[[], str]) -> Check:
    try:
        return Check(title, "ok", check())
    except NotChecked as reason:
        return Check(title, "not checked", str(reason))
    except UserError as fault:
        return Check(title, "failed", str(fault))
    except Exception as fault:  # a check's own failure must not hide what the others found
        return Check(title, "failed", f"{type(fault).__name__}: {fault}")


def _data(config: WindowConfig, data: str) -> str:
    sources, exposures = config.sources, config.exposures
    folder = Folder.at(data)
    folder.entries()  # a missing folder is one fault, not one per table
    faults, found = [], []
    for table in ("users", "items", "events", "exposures"):
        try:
            if sources.of(table).from_events:
                continue
            if source := _source(folder, table, exposures, sources.of(table)):
                step = -(-len(source.files) // _PARTS)
                # Spark writes parts without rows, too, so a sample without any calls for a look at all.
                if not raw_tables.checked_rows(replace(source, files=source.files[::step])):
                    raw_tables.check(source)
                found.append(table)
        except DataError as fault:
            faults.append(str(fault))
    if config.needs_exposures and not faults and "exposures" not in found:
        faults.append(f"{config.needs_exposures} needs the table exposures, and {exposures or data} has none")
    if faults:
        raise DataError("\n".join(faults))
    return f"{', '.join(found)} at {data}"


def _source(folder: Folder, table: str, exposures: str, given: RawSource) -> Source | None:
    if table != "exposures":
        return raw_tables.locate(folder, table, given)
    if not exposures:
        return raw_tables.find(folder, table, given)
    try:
        return raw_tables.locate(Folder.at(exposures), table, given)
    except DataError as fault:
        raise DataError(f"sequences.exposures: {fault}") from fault


def _mlflow(config: WindowConfig) -> str:
    host = urlsplit(config.tracking_uri).hostname
    if _is_outside(config.preflight) and not _is_known(host):
        raise NotChecked(f"{host} is a name of the cluster's; the first task checks it")
    client = mlflow_client.connect(config.tracking_uri, create=True)
    with failures.readable_errors(client.tracking_uri):
        registry.ensure_model(client, config.model_name)
        client.set_registered_model_tag(config.model_name, "preflight", "may write")
        client.delete_registered_model_tag(config.model_name, "preflight")
    return f"{config.model_name} can be registered at {failures.without_password(client.tracking_uri)}"


def _is_known(host: str | None) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None))
    except OSError:
        return False


def _folder(path: str) -> str:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made ({error.strerror}); name another folder") from error
    return _writable(path)


def _volume(path: str) -> str:
    if not kubeflow.in_pod():
        raise NotChecked("this is no pod")
    if not Path(path).is_dir():
        raise ConfigError("nothing is mounted there; name its claim in the placement of `window`")
    return _writable(path)


def _writable(path: str) -> str:
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".recllm-preflight-"):
            return "writable"
    except OSError as error:
        groups = sorted({os.getgid(), *os.getgroups()})
        raise ConfigError(
            f"cannot be written to ({error.strerror}); let user {os.getuid()} or a group of {groups} write"
        ) from error


def _environment(kind: str, references: Mapping[str, str]) -> str:
    """Check that the variables of `references` are set; `kind` is kubectl's for these."""
    missing = {name: reference for name, reference in references.items() if not os.environ.get(name)}
    if missing and not kubeflow.in_pod():
        listed = ", ".join(f"{name} ({reference})" for name, reference in missing.items())
        raise NotChecked(f"this is no pod, and these are not set here: {listed}")
    faults = []
    for name, reference in missing.items():
        source, key = reference.split("/")
        command = f"kubectl create {kind} {source} --from-literal={key}=…"
        faults.append(f"{name}: {kind.split()[0]} {source} has no key {key}, or it is empty; {command}")
    if faults:
        raise ConfigError("\n".join(faults))
    return ", ".join(sorted(references))
