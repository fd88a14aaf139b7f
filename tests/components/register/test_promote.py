"""Promotion and rollback on a real registry: aliases, history, and two people at once."""

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.register.history import Entry, Promotion, read_entries
from components.register.promote import promote, rollback
from components.shared.errors import ConfigError, UserError
from components.shared.tracking.mlflow_client import connect
from components.shared.tracking.registry import aliases, ensure_model

MODEL = "recllm-r1"


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    """A registry with versions 1 to 4, of which 4 is the challenger."""
    client = connect(tracking_uri)
    ensure_model(client, MODEL)
    for _ in range(4):
        client.create_model_version(MODEL, "file:///nowhere", tags={"gate": "passed"})
    client.set_registered_model_alias(MODEL, "challenger", "4")
    return client


def history(tracking_uri: str, model: str) -> list[Promotion]:
    return [entry.promotion for entry in read_entries(connect(tracking_uri), model) if entry.done]


def reigning(client: MlflowClient) -> tuple[str | None, str | None]:
    found = aliases(client, MODEL)
    return found.get("champion"), found.get("previous")


def test_the_challenger_becomes_champion_and_the_champion_previous(client, tracking_uri) -> None:
    first = promote(tracking_uri, MODEL, "1")
    assert (first.version, first.replaced, reigning(client)) == ("1", None, ("1", None))
    second = promote(tracking_uri, MODEL)
    assert (second.version, second.replaced, reigning(client)) == ("4", "1", ("4", "1"))
    assert str(second) == "recllm-r1 version 4 is the champion now; before: version 1, now `previous`"


def test_promoting_the_champion_changes_nothing(client, tracking_uri) -> None:
    promote(tracking_uri, MODEL, "1")
    promote(tracking_uri, MODEL, "2")
    again = promote(tracking_uri, MODEL, "2")
    assert not again.changed
    assert str(again) == "recllm-r1 version 2 is the champion already"
    assert reigning(client) == ("2", "1")
    assert len(history(tracking_uri, MODEL)) == 2


def test_rollback_goes_back_and_a_second_one_forth(client, tracking_uri) -> None:
    promote(tracking_uri, MODEL, "1")
    promote(tracking_uri, MODEL, "2")
    assert rollback(tracking_uri, MODEL).version == "1"
    assert reigning(client) == ("1", "2")
    rollback(tracking_uri, MODEL)
    assert reigning(client) == ("2", "1")
    changes = [(change.action, change.version, change.replaced) for change in history(tracking_uri, MODEL)]
    assert changes == [
        ("promote", "1", None),
        ("promote", "2", "1"),
        ("rollback", "1", "2"),
        ("rollback", "2", "1"),
    ]


def test_what_was_rolled_back_is_not_promoted_by_default(client, tracking_uri) -> None:
    promote(tracking_uri, MODEL, "1")
    promote(tracking_uri, MODEL)  # the challenger, version 4
    rollback(tracking_uri, MODEL)
    with pytest.raises(ConfigError, match="the challenger, version 4, has been champion until version 1"):
        promote(tracking_uri, MODEL)
    assert reigning(client) == ("1", "4")
    promote(tracking_uri, MODEL, "4")
    assert reigning(client) == ("4", "1")


def test_a_version_that_no_gate_passed_needs_a_reason_which_the_history_keeps(client, tracking_uri) -> None:
    client.create_model_version(MODEL, "file:///nowhere")
    with pytest.raises(ConfigError, match=r"version 5: no gate has passed it .*--force --reason"):
        promote(tracking_uri, MODEL, "5")
    assert reigning(client) == (None, None) and history(tracking_uri, MODEL) == []
    promote(tracking_uri, MODEL, "5", reason="the online test won")
    promote(tracking_uri, MODEL, "1")
    rollback(tracking_uri, MODEL)  # it was champion before
    assert reigning(client) == ("5", "1")
    assert [change.reason for change in history(tracking_uri, MODEL)] == ["the online test won", "", ""]


def test_history_only_grows(client, tracking_uri) -> None:
    promote(tracking_uri, MODEL, "1")
    before = dict(client.get_registered_model(MODEL).tags)
    promote(tracking_uri, MODEL, "2")
    after = client.get_registered_model(MODEL).tags
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 1


def test_of_claims_at_the_same_moment_one_is_carried_out(client, tracking_uri, monkeypatch) -> None:
    """All four have written their claims before any of them looks at the others'."""
    together, write = threading.Barrier(4), Entry.write

    def write_together(entry: Entry, client: MlflowClient) -> None:
        write(entry, client)
        if not entry.done:
            together.wait(60)

    def attempt(version: str) -> str | None:
        try:
            return promote(tracking_uri, MODEL, version).version
        except UserError:
            return None

    monkeypatch.setattr(Entry, "write", write_together)
    with ThreadPoolExecutor(4) as pool:
        (winner,) = filter(None, pool.map(attempt, ["1", "2", "3", "4"]))
    assert reigning(client) == (winner, None)
    ((_, text),) = client.get_registered_model(MODEL).tags.items()
    entry = json.loads(text)
    assert (entry["done"], entry["promotion"]["version"]) == (True, winner)


@pytest.mark.parametrize(
    ("call", "number", "moved"),
    [
        pytest.param("get_registered_model", 4, False, id="as it looks for other claims"),
        pytest.param("set_registered_model_alias", 1, False, id="before the champion moves"),
        pytest.param("set_registered_model_alias", 2, True, id="after it"),
        pytest.param("set_registered_model_tag", 2, True, id="at the entry"),
    ],
)
def test_a_change_that_fails_leaves_no_claim(client, tracking_uri, monkeypatch, call, number, moved) -> None:
    promote(tracking_uri, MODEL, "1")
    original, calls = getattr(MlflowClient, call), itertools.count(1)

    def failing(*given):
        if next(calls) == number:
            raise MlflowException("no")
        return original(*given)

    monkeypatch.setattr(MlflowClient, call, failing)
    with pytest.raises(ConfigError, match="MLflow fails: no"):
        promote(tracking_uri, MODEL, "2")
    entries = read_entries(client, MODEL)
    assert [entry.promotion.version for entry in entries] == ["1", "2"] if moved else ["1"]
    assert all(entry.done for entry in entries)
    assert reigning(client) == ("2", "1") if moved else ("1", None)


def test_20_promotions_at_once_leave_one_history_and_always_a_champion(client, tracking_uri) -> None:
    promote(tracking_uri, MODEL, "1")
    seen: set[str | None] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(reigning(client)[0])

    def attempt(number: int) -> bool:
        try:
            return promote(tracking_uri, MODEL, str(number % 4 + 1)).changed
        except UserError:
            return False

    with ThreadPoolExecutor(21) as pool:
        watcher = pool.submit(watch)
        changed = sum(pool.map(attempt, range(20)))
        done.set()
        watcher.result()
    changes = history(tracking_uri, MODEL)
    champions = [None, *(change.version for change in changes)]
    assert [change.replaced for change in changes] == champions[: len(changes)]
    assert changed >= 1 and len(changes) == 1 + changed
    assert reigning(client)[0] == changes[-1].version
    assert None not in seen, "there was a moment without a champion"


def claim(client: MlflowClient, version: str, age: timedelta) -> str:
    promotion = Promotion(
        model=MODEL,
        action="promote",
        version=version,
        replaced=None,
        at=(datetime.now(UTC) - age).isoformat(),
        by="somebody",
    )
    entry = Entry(number=1, nonce="rival", promotion=promotion, done=False)
    entry.write(client)
    return entry.tag


def test_of_two_at_once_the_later_one_gives_way(client, tracking_uri) -> None:
    tag = claim(client, "3", timedelta(seconds=1))
    with pytest.raises(UserError, match="somebody is changing the champion to version 3"):
        promote(tracking_uri, MODEL, "2")
    assert reigning(client) == (None, None)
    assert list(client.get_registered_model(MODEL).tags) == [tag]


@pytest.mark.parametrize(
    ("moved", "changes"),
    [
        pytest.param(False, [("2", None)], id="killed before the aliases moved: it did not happen"),
        pytest.param(True, [("3", None), ("2", "3")], id="killed after: it did"),
    ],
)
def test_the_claim_of_a_killed_command_lapses(client, tracking_uri, moved, changes) -> None:
    claim(client, "3", timedelta(minutes=6))
    if moved:
        client.set_registered_model_alias(MODEL, "champion", "3")
    promote(tracking_uri, MODEL, "2")
    assert [(change.version, change.replaced) for change in history(tracking_uri, MODEL)] == changes
    assert all(json.loads(tag)["done"] for tag in client.get_registered_model(MODEL).tags.values())


@pytest.mark.parametrize("request_number", [1, 2, 3, 4])
def test_after_a_kill_the_same_command_finishes_at_once(client, tracking_uri, request_number) -> None:
    """A process of its own dies at each write of a promotion: claim, champion, previous, entry."""
    promote(tracking_uri, MODEL, "1")
    command = [sys.executable, "-c", KILLED, tracking_uri, str(request_number)]
    killed = subprocess.run(command, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    promote(tracking_uri, MODEL, "2")
    assert reigning(client) == ("2", "1")
    changes = [(change.version, change.replaced) for change in history(tracking_uri, MODEL)]
    assert changes == [("1", None), ("2", "1")]


KILLED = """
import os, signal, sys
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from components.register.promote import promote

uri, writes = sys.argv[1], int(sys.argv[2])

def dying(write):
    def call(*given):
        global writes
        writes -= 1
        if not writes:
            os.kill(os.getpid(), signal.SIGKILL)
        return write(*given)
    return call

for name in ("set_registered_model_tag", "set_registered_model_alias"):
    setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
promote(uri, "recllm-r1", "2")
"""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(
            lambda uri: promote(uri, MODEL, "9"),
            "no version or alias '9'; it has 1, 2, 3, 4",
            id="version",
        ),
        pytest.param(
            lambda uri: promote(uri, MODEL, "best"),
            "no version or alias 'best'; it has 1, 2, 3, 4, challenger",
            id="alias",
        ),
        pytest.param(lambda uri: promote(uri, "other"), "no registered model 'other'", id="model"),
        pytest.param(
            lambda uri: rollback(uri, MODEL),
            "no version or alias 'previous'; it has 1",
            id="nothing to go back to",
        ),
        pytest.param(lambda uri: promote(uri + ".not", MODEL), r"no database at .*\.not", id="database"),
        pytest.param(lambda uri: promote("http://127.0.0.1:9", MODEL), "no answer from", id="server"),
        pytest.param(lambda uri: promote("mongodb://x", MODEL), "neither http", id="scheme"),
    ],
)
def test_what_is_not_there_is_named(client, tracking_uri, command: Callable, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        command(tracking_uri)
    assert reigning(client) == (None, None)


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("promotion.note", "ask Li"),
        ("promotion.000009.x", "{}"),
        ("promotion.000009.x", '{"promotion": {"by": 1}}'),
    ],
)
def test_a_tag_that_is_no_entry_of_the_history_is_named(client, tracking_uri, tag, text) -> None:
    client.set_registered_model_tag(MODEL, tag, text)
    with pytest.raises(ConfigError, match=rf"the tag '{tag}' .* is no entry of the history"):
        promote(tracking_uri, MODEL)
    assert reigning(client) == (None, None)


def test_no_registry_at_all_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set"):
        promote("", MODEL)


def test_a_server_that_drops_what_it_accepts_is_found_before_anything_changes(
    client, tracking_uri, monkeypatch
) -> None:
    promote(tracking_uri, MODEL, "1")
    monkeypatch.setattr(MlflowClient, "set_registered_model_tag", lambda *_: None)
    with pytest.raises(ConfigError, match=r"accepted a tag of the model recllm-r1 and does not hold it"):
        promote(tracking_uri, MODEL)
    assert reigning(client) == ("1", None)
