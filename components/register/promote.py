"""Promotion and rollback: which version is champion, with an append-only history.

MLflow has no compare-and-swap. So a change first claims the next number of the history as a tag of the
registered model and checks that no other change claims it: whoever writes second sees the first. When the
aliases have moved, the claim becomes the history's entry.
"""

import getpass
import json
import os
import socket
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import psutil
from mlflow import MlflowClient

from components.shared.errors import ConfigError, UserError
from components.shared.tracking import mlflow_client, registry
from components.shared.tracking.failures import readable_errors
from components.shared.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS

HISTORY = "promotion."
Action = Literal["promote", "rollback"]
_ABANDONED = timedelta(minutes=5)  # a change takes seconds; an older claim was left by a killed command


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """One change of the champion."""

    model: str
    action: Action
    version: str
    replaced: str | None
    """The champion before."""
    at: str
    """Time in ISO 8601, UTC."""
    by: str
    reason: str = ""
    """Why it was promoted past the gate."""
    changed: bool = True
    """False if the version was the champion already."""

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.model} version {self.version} is the champion already"
        before = f"version {self.replaced}, now `{PREVIOUS}`" if self.replaced else "no champion"
        return f"{self.model} version {self.version} is the champion now; before: {before}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A numbered entry of the history: a claim until `done`. `nonce` distinguishes concurrent claims."""

    number: int
    nonce: str
    promotion: Promotion
    done: bool
    claimed_on: str = ""
    """The machine whose process claimed it; "" where that is not known."""
    process: int = 0

    @property
    def is_abandoned(self) -> bool:
        """Return whether no command will end this claim: process gone, or too old."""
        if self.done:
            return False
        claimed_here = self.claimed_on != "" and self.claimed_on == _machine()
        if claimed_here and not psutil.pid_exists(self.process):
            return True
        return datetime.now(UTC) - datetime.fromisoformat(self.promotion.at) > _ABANDONED

    @property
    def tag(self) -> str:
        """Return the entry's tag of the registered model."""
        return f"{HISTORY}{self.number:06d}.{self.nonce}"

    def write(self, client: MlflowClient) -> None:
        """Set the tag."""
        values = asdict(self)
        del values["number"], values["nonce"]  # the tag's name holds them
        client.set_registered_model_tag(self.promotion.model, self.tag, json.dumps(values, sort_keys=True))


def rollback(tracking_uri: str, model_name: str) -> Promotion:
    """Swap champion and `previous`. Raises as `promote`."""
    return promote(tracking_uri, model_name, PREVIOUS, action="rollback")


def promote(
    tracking_uri: str,
    model_name: str,
    version_or_alias: str = CHALLENGER,
    *,
    action: Action = "promote",
    reason: str = "",
) -> Promotion:
    """Make a version the champion, and the old champion `previous`.

    A version that no gate has passed needs a `reason`, which the history keeps.

    Raises ConfigError: no such registry, model or version, or no gate has passed it; UserError: another
    change is in progress.
    """
    client = mlflow_client.connect(tracking_uri)
    with readable_errors(client.tracking_uri):
        number = _settle(client, model_name) + 1
        # Read after the history: a change that ends in between has claimed the same number.
        aliases = registry.aliases(client, model_name)
        (version,) = registry.resolve(client, model_name, version_or_alias)
        promotion = Promotion(
            model=model_name,
            action=action,
            version=version,
            replaced=aliases.get(CHAMPION),
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=_user(),
            reason=reason,
        )
        if promotion.version == promotion.replaced:
            return replace(promotion, replaced=None, changed=False)
        if action == "promote" and not reason:
            _check_gate(client, model_name, promotion.version)
        entry = Entry(
            number=number,
            nonce=uuid.uuid4().hex[:12],
            promotion=promotion,
            done=False,
            claimed_on=_machine(),
            process=os.getpid(),
        )
        _claim(client, entry)
        # First: without it nothing has changed, after it `_settle` can do the rest.
        client.set_registered_model_alias(model_name, CHAMPION, promotion.version)
        _finish(client, entry)
    return promotion


def _finish(client: MlflowClient, entry: Entry) -> Entry:
    """Return the finished entry of a change whose champion has moved, after `previous` has."""
    if entry.promotion.replaced is not None:
        client.set_registered_model_alias(entry.promotion.model, PREVIOUS, entry.promotion.replaced)
    done = replace(entry, done=True)
    done.write(client)
    return done


def _check_gate(client: MlflowClient, model_name: str, version: str) -> None:
    """Raise ConfigError unless a gate has passed the version."""
    if client.get_model_version(model_name, version).tags.get(registry.GATE) != registry.PASSED:
        raise ConfigError(
            f"{model_name} version {version}: no gate has passed it (it has no tag "
            f"{registry.GATE}={registry.PASSED}); compare it in a run of the pipeline, or promote it with "
            "--force --reason TEXT, which the history keeps"
        )


def _claim(client: MlflowClient, entry: Entry) -> None:
    """Write the entry's claim.

    Raises UserError: another change claims the same number; ConfigError: the server does not keep the claim.
    """
    entry.write(client)
    model = entry.promotion.model
    entries = read_entries(client, model)
    if entry.tag not in {found.tag for found in entries}:  # a gateway may answer writes that it drops
        raise ConfigError(
            f"{client.tracking_uri}: it accepted a tag of the model {model} and does not hold it; no version "
            "was promoted. Is this MLflow itself, and may you write there?"
        )
    for rival in entries:
        if rival.number == entry.number and rival.nonce != entry.nonce:
            client.delete_registered_model_tag(model, entry.tag)
            raise UserError(
                f"{model}: {rival.promotion.by} is changing the champion to version "
                f"{rival.promotion.version} at this moment (since {rival.promotion.at}); nothing was changed "
                "here. Look at the outcome and try again; the claim of a killed command lapses at once "
                f"where it ran, elsewhere after {_ABANDONED.seconds // 60} minutes"
            )


def _settle(client: MlflowClient, model_name: str) -> int:
    """Finish or drop what killed commands began; return the number of the last finished entry."""
    last = 0
    for entry in read_entries(client, model_name):
        if entry.is_abandoned:
            if registry.aliases(client, model_name).get(CHAMPION) == entry.promotion.version:
                entry = _finish(client, entry)
            else:
                client.delete_registered_model_tag(model_name, entry.tag)
        last = entry.number if entry.done else last
    return last


def read_entries(client: MlflowClient, model_name: str) -> list[Entry]:
    """Return the claims and entries of the history by their numbers.

    Raises ConfigError for a tag that looks like one and is none.
    """
    model = registry.require_model(client, model_name)
    return [_entry(model_name, *tag) for tag in sorted(model.tags.items()) if tag[0].startswith(HISTORY)]


def _entry(model_name: str, tag: str, text: str) -> Entry:
    try:
        number, nonce = tag.removeprefix(HISTORY).split(".")
        values = json.loads(text)
        values["promotion"] = Promotion(**values["promotion"])
        return Entry(number=int(number), nonce=nonce, **values)
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{model_name}: the tag '{tag}' of the registered model is no entry of the history of promotions "
            f"({error}); delete it if it was written by hand, else use the code that wrote it"
        ) from error


def _machine() -> str:
    """Return what names this host and its processes' numbers; "" where unknown."""
    try:  # containers of one host may share its name, but not their processes' numbers
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user id without a name
        return "unknown"
