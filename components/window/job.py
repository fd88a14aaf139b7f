"""Check what a run needs, and settle its data window, the names of its inputs, and its key."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient

from components.shared.artifacts.fingerprint import of_text
from components.shared.errors import ConfigError, faults_as
from components.shared.logs import logger
from components.shared.times import parse_time
from components.shared.tracking import failures, mlflow_client, registry
from components.shared.tracking.registry import CHAMPION, RUN_KEY
from components.window import lineage, page, preflight
from components.window.config import WindowConfig
from components.window.history import History, Record

log = logger("window")


class Window(NamedTuple):
    """What the steps are given; texts are "" where there is nothing to name."""

    as_of: str
    data_fingerprint: str
    base_model_fingerprint: str
    encoder_fingerprint: str
    champion_version: str
    champion_fingerprint: str
    lineage: dict[str, str]


def run(config: WindowConfig, data: str, scheduled: str, run_id: str, html: Path) -> Window:
    """Return the window of the pipeline run `run_id` on `data`; write the page `html`.

    `data` is the location of the raw tables. The window ends at `config.as_of`, else at the `scheduled` time
    (ISO 8601); "" has no end. Data that a scheduled run has seen before keep the window that they had then,
    so that with unchanged settings, code and models everything after this task, the run key included, is as
    it was.

    Raises: ConfigError listing every fault that the preflight finds.
    """
    checks = preflight.run(config, data, placeholders=(scheduled, run_id))
    preflight.require(checks)
    names = {
        "data_fingerprint": lineage.of_data(data, config.exposures),
        "base_model_fingerprint": lineage.of_model(config.base_model),
        "encoder_fingerprint": lineage.of_model(config.encoder),
    }
    client = mlflow_client.connect(config.tracking_uri)
    with failures.readable_errors(client.tracking_uri):
        history = History(client, mlflow_client.experiment_id(client, config.experiment), run_id)
        as_of, seen = _window(config, history, names["data_fingerprint"], scheduled)
        origin = _lineage(config, names, data, as_of, run_id)
        before = history.earliest(others=True, run_key=origin[RUN_KEY])
        history.complete(as_of, origin[RUN_KEY], origin)
        versions = registry.versions(client, config.model_name, origin[RUN_KEY])
        champion, champion_fingerprint = _champion(client, config.model_name)
    verdict = _verdict(config, seen, before, str(versions[0].version) if versions else "")
    log.info("run key %s, as of %s. %s", origin[RUN_KEY], as_of or "now: no end", verdict)
    page.write(html, verdict, run_id, as_of, origin, checks)
    return Window(
        as_of=as_of,
        **names,
        champion_version=champion,
        champion_fingerprint=champion_fingerprint,
        lineage=origin,
    )


def _window(
    config: WindowConfig, history: History, data_fingerprint: str, scheduled: str
) -> tuple[str, Record | None]:
    """Return the window's end, and the first other run on the same data, if any."""
    as_of = config.as_of or scheduled
    if as_of:
        with faults_as(ConfigError):
            as_of = parse_time("as_of", as_of).isoformat().replace("+00:00", "Z")
    data_key = of_text(data_fingerprint, config.as_of or ("scheduled" if scheduled else ""))
    # Recorded first, then looked up: of two runs that begin together, both see the earlier one.
    history.begin(data_key, as_of)
    first = history.earliest(data_key=data_key)
    if first and not config.fresh:
        as_of = first.as_of
    return as_of, history.earliest(others=True, data_key=data_key)


def _lineage(
    config: WindowConfig, names: dict[str, str], data: str, as_of: str, run_id: str
) -> dict[str, str]:
    """Return what the run is made from: equal for equal inputs, since it keys caches."""
    code = lineage.of_code()
    constants = json.dumps(config.lineage, sort_keys=True)
    own = run_id if config.fresh else ""
    named = of_text(*names.values(), config.settings, constants, code, as_of, own)
    stem = re.sub(r"[^\w.-]+", "-", config.profile, flags=re.ASCII)[:60]
    end = f"{datetime.fromisoformat(as_of):%Y%m%d-%H%M%S}" if as_of else "all"
    return config.lineage | {
        RUN_KEY: f"{stem}-{end}-{named[:8]}",
        "profile": config.profile,
        "data": data,
        "as_of": as_of,
        "code_fingerprint": code,
        "git_commit": lineage.git_commit(),
        "data_fingerprint": names["data_fingerprint"],
        "base_model_fingerprint": names["base_model_fingerprint"],
    }


def _champion(client: MlflowClient, name: str) -> tuple[str, str]:
    """Return the champion's version and fingerprint; "" and "" without a champion."""
    version = registry.aliases(client, name).get(CHAMPION)
    if not version:
        return "", ""
    found = client.get_model_version(name, version)
    return version, of_text(str(found.run_id), str(found.source), str(found.creation_timestamp))


def _verdict(config: WindowConfig, seen: Record | None, before: Record | None, version: str) -> str:
    """Return in words what has changed since earlier runs, and what follows."""
    if config.fresh:
        return "A fresh run: every step runs, whatever earlier runs have left."
    if before and version:
        return (
            f"Data unchanged since run {before}: outputs are used again, nothing is trained, and "
            f"{config.model_name} version {version} stays registered. Only a new champion is compared."
        )
    if before:
        return (
            f"Data unchanged since run {before}, which registered no version: the outputs of its finished "
            "steps are used again."
        )
    if seen:
        return f"Data unchanged since run {seen}; for changed settings, code or models, steps run again."
    return "New data: every step that reads them runs."
