"""Recommendations for users of raw tables, by a registered model: part after part, then a whole table."""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.etl.config import SequencesConfig
from components.shared.artifacts.storage import is_remote
from components.shared.errors import ConfigError, DataError, full_disk_named
from components.shared.logs import logger

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logger("recommend")

PART_USERS = 256
"""Users of a part: what a killed command loses."""


@dataclass
class Counts:
    """What was asked and answered; unknown is what the data, or the model, lacks.

    Refused users, whose data the model does not take, are answered as if nothing was known of them.
    """

    users: int = 0
    unknown_users: int = 0
    without_history: int = 0
    unknown_items: int = 0
    refused_users: int = 0
    valid_answers: int = 0


def run(
    model: str,
    registry: str,
    config: SequencesConfig,
    data: str,
    users: Path | None,
    out: str,
    work: Path,
    answer: str = "",
    engine: str = "",
) -> Counts:
    """Write a ranking for each user to the table `out`; return what was counted.

    `users` is a file of ids, one a line; None: everybody in `data`. `out` is a folder or s3:// URI, written
    when all parts are; these wait below `work`, from which the same command resumes. Histories are read with
    Spark and answered by `engine`; where one of them is missing, another environment resumes.
    Raises ConfigError: no such model, Spark is elsewhere, Spark or the engine is not installed; DataError,
    ContractError: `data` or `users` are unfit.
    """
    from components.shared.artifacts.fingerprint import of_text
    from components.shared.language_model import vllm_engine
    from components.window.lineage import of_code, of_data
    from pipelines.datasets.own_folder import RECOMMENDED, check_replaceable, own_folder

    _check_spark(config)
    check_replaceable(out, RECOMMENDED)
    _check_apart(out, data)
    wanted = None if users is None else _ids(users)
    model = pinned(model, registry)
    settings = {name: value for name, value in (("answer", answer), ("engine", engine)) if value}
    key = (_uuid(model, registry), json.dumps(settings), of_data(data), json.dumps(wanted), repr(config))
    folder = work / of_text(*key, of_code())
    asked = _Asked.prepare(config, data, folder)
    if engine == "vllm":
        vllm_engine.check_installed(
            "the histories are read; run the same command with the same --runs folder in the trainer image, "
            "where it resumes"
        )
    loaded = _load(model, registry, settings)
    log.info("%s answers", model)
    everybody = asked.everybody() if wanted is None else wanted
    parts = [everybody[start : start + PART_USERS] for start in range(0, len(everybody), PART_USERS)]
    total = Counts()
    for number, ids in enumerate(parts):
        counts = _part(loaded, asked, ids, folder / f"part-{number:05d}.parquet")
        for field in fields(Counts):
            setattr(total, field.name, getattr(total, field.name) + getattr(counts, field.name))
        log.info("%d of %d users", total.users, len(everybody))
    with own_folder(out, RECOMMENDED) as table:
        for part in sorted(folder.glob("part-*.parquet")):
            (table / part.name).write_bytes(part.read_bytes())
    shutil.rmtree(folder)  # the next command asks at its own time
    return total


def _check_spark(config: SequencesConfig) -> None:
    if not config.spark.is_local:  # executors would leave the histories on their own disks
        raise ConfigError(
            f"recommend reads the data on this machine, but sequences.spark.master is {config.spark.master}; "
            "name a profile with a master local[...]"
        )


def _check_apart(out: str, data: str) -> None:
    """Raise DataError if `out` lies in `data`: it may be read as a table."""
    given, read = (text if is_remote(text) else Path(text).resolve().as_posix() for text in (out, data))
    if f"{given.rstrip('/')}/".startswith(f"{read.rstrip('/')}/"):
        raise DataError(f"{out}: lies in the data {data}; name a folder outside it")


def pinned(model: str, registry: str) -> str:
    """Return the URI of the version that `model` means now. Raises ConfigError."""
    from components.shared.tracking import registry as models

    named = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/@]+))", model)
    if not named:
        raise ConfigError(f"--model {model}: neither models:/NAME/VERSION nor models:/NAME@ALIAS")
    name, number, alias = named.groups()
    with _of_registry(registry) as client:
        (version,) = models.resolve(client, name, number or alias)
        return f"models:/{name}/{version}"


def _uuid(model: str, registry: str) -> str:
    """Return what names a version in every registry."""
    import mlflow

    with _of_registry(registry, model):
        return str(mlflow.models.get_model_info(model).model_uuid)


def _load(model: str, registry: str, settings: dict[str, str]) -> Any:
    import mlflow

    with _of_registry(registry, model), full_disk_named(f"the copy of {model}"):
        loaded = mlflow.pyfunc.load_model(model, model_config=settings)
    # Itself, not behind MLflow's check of types, which takes a millisecond per entry of a history.
    return loaded.unwrap_python_model()


@contextmanager
def _of_registry(registry: str, model: str = "") -> Iterator["MlflowClient"]:
    """Let MLflow ask `registry`, for `model` if named; yield its client. Raises ConfigError: it fails."""
    from components.shared.tracking import failures, mlflow_client

    client = mlflow_client.connect(registry)
    asked = ": ".join(filter(None, [client.tracking_uri, model]))
    with failures.readable_errors(asked), mlflow_client.as_default(client):
        yield client


def _ids(file: Path) -> list[str]:
    """Return the distinct user ids in `file`, one a line, in its order. Raises DataError."""
    from components.shared.artifacts.dialects import not_utf8

    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{file}: cannot be read as lines of user ids ({error})") from error
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(lambda: file.open(encoding="utf-8"), str(file))) from error
    if "\0" in text:
        raise DataError(not_utf8(lambda: file.open(encoding="utf-8"), str(file)))
    lines = text.splitlines()
    if not (found := list(dict.fromkeys(line.strip() for line in lines if line.strip()))):
        raise DataError(f"{file}: no user id; write one a line")
    return found


@dataclass(frozen=True)
class _Rows:
    """Rows by user id; in pandas they would take four times the memory."""

    table: Any
    row_of: dict[str, int]

    @classmethod
    def read(cls, folder: Path, columns: list[str] | None = None) -> "_Rows":
        """Return `columns` of the table, user_id among them; None: all."""
        import pyarrow.parquet as pq

        table = pq.read_table(folder, columns=columns)
        return cls(table, {user: row for row, user in enumerate(table["user_id"].to_pylist())})

    def get(self, user: str) -> dict[str, Any]:
        """Return the row of `user`, {} without one."""
        row = self.row_of.get(user)
        return {} if row is None else self.table.slice(row, 1).to_pylist()[0]


@dataclass(frozen=True)
class _Asked:
    """Histories and profiles by user id; `now` is that of the first attempt."""

    histories: _Rows
    profiles: _Rows
    now: str

    @classmethod
    def prepare(cls, config: SequencesConfig, data: str, folder: Path) -> "_Asked":
        """Read `data` into `folder`, unless an earlier attempt did."""
        from components.shared.artifacts.outputs import atomic_folder, write_json

        prepared = folder / "asked"
        if not prepared.exists():
            if find_spec("pyspark") is None:
                raise ConfigError(
                    "no histories are read yet, and the package pyspark is not installed here; run the same "
                    "command with the same --runs folder first where it is, then here again"
                )
            from components.etl.sequences.histories import run_histories

            now = datetime.now(UTC).isoformat()
            with atomic_folder(prepared) as partial:
                tables = {name: partial / name for name in ("histories", "users")}
                found = run_histories(config, data, **tables, page=folder.parent / "data_docs.html")
                write_json(partial / "now.json", now)
            log.info("%d of %d events refused", found.events_refused, found.events_read)
        histories = _Rows.read(prepared / "histories", ["user_id", "item_ids", "timestamps", "events"])
        now = json.loads((prepared / "now.json").read_text())
        return cls(histories, _Rows.read(prepared / "users"), now)

    def everybody(self) -> list[str]:
        """Return all users with a history or a profile, sorted."""
        return sorted({*self.histories.row_of, *self.profiles.row_of})

    def knows(self, user: str) -> bool:
        """Return whether the data hold a history or a profile of `user`."""
        return user in self.histories.row_of or user in self.profiles.row_of

    def request(self, user: str) -> dict[str, Any]:
        """Return the model's input row for `user`; an unknown one has nothing but the time."""
        history, profile = self.histories.get(user), self.profiles.get(user)
        entries, words = list(_entries(history)) if history else [], dict(_words(profile))
        return {"history": entries, "profile": words or None, "now": self.now}


def _entries(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an entry per distinct item, with all actions on it."""
    actions: list[list[str]] = [[] for _ in row["item_ids"]]
    for event in row["events"]:
        actions[event["position"]].append(event["action"])
    for item, time, done in zip(row["item_ids"], row["timestamps"], actions, strict=True):
        yield {"item_id": item, "actions": done, "timestamp": time.isoformat()}


def _words(profile: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the known fields of a profile as text."""
    for name, value in profile.items():
        if isinstance(value, list):
            value = ", ".join(value)
        if name != "user_id" and value not in (None, ""):
            yield name, str(value)


def _part(model: Any, asked: _Asked, ids: Sequence[str], file: Path) -> Counts:
    """Write the answers for `ids` to `file`, unless they are there; return their counts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from components.shared.artifacts.outputs import atomic_file
    from data_contracts.tables import RECOMMENDATIONS

    requests = [asked.request(user) for user in ids]
    if not file.exists():
        answers = _answers(model, requests)
        rows = [{"user_id": user, **answer} for user, answer in zip(ids, answers, strict=True)]
        table = pa.Table.from_pylist(rows, schema=RECOMMENDATIONS)
        with atomic_file(file) as partial:
            pq.write_table(table, partial)
    written = pq.read_table(file, columns=["valid", "unknown_items", "fault"]).to_pydict()
    return Counts(
        users=len(ids),
        unknown_users=sum(not asked.knows(user) for user in ids),
        without_history=sum(not request["history"] for request in requests),
        unknown_items=sum(written["unknown_items"]),
        refused_users=sum(fault is not None for fault in written["fault"]),
        valid_answers=sum(written["valid"]),
    )


def _answers(model: Any, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the model's answers; who is refused is answered as a stranger, with the `fault`.

    Raises MlflowException: it refuses strangers too.
    """
    import pandas as pd
    from mlflow.exceptions import MlflowException

    try:
        found = model.predict(None, pd.DataFrame(requests))
    except MlflowException as error:
        if len(requests) > 1:  # the model says which row it is, but not every version alike
            half = len(requests) // 2
            return [*_answers(model, requests[:half]), *_answers(model, requests[half:])]
        stranger = requests[0] | {"history": [], "profile": None}
        if stranger == requests[0]:
            raise
        return [answer | {"fault": str(error)} for answer in _answers(model, [stranger])]
    return [answer | {"fault": None} for answer in found.to_dict(orient="records")]
