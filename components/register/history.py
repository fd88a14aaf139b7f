"""The history of the champion: its entries, and the claims that changes make on the next one."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import psutil
from mlflow import MlflowClient

from components.shared.errors import ConfigError
from components.shared.tracking import registry
from components.shared.tracking.registry import PREVIOUS

HISTORY = "promotion."
Action = Literal["promote", "rollback"]
ABANDONED = timedelta(minutes=5)  # a change takes seconds; an older claim was left by a killed command
ACTIVE: set[str] = set()
"""The nonces of this process's changes that are going on."""


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
        """Return whether no command will end this claim: failed, killed, or too old."""
        if self.done:
            return False
        if self.claimed_on != "" and self.claimed_on == this_machine():
            if not psutil.pid_exists(self.process):
                return True
            if self.process == os.getpid() and self.nonce not in ACTIVE:
                return True
        return datetime.now(UTC) - datetime.fromisoformat(self.promotion.at) > ABANDONED

    @property
    def rank(self) -> tuple[str, str]:
        """Return what orders the claims of one number: time by the claimants' clocks."""
        return self.promotion.at, self.nonce

    @property
    def tag(self) -> str:
        """Return the entry's tag of the registered model."""
        return f"{HISTORY}{self.number:06d}.{self.nonce}"

    def write(self, client: MlflowClient) -> None:
        """Set the tag."""
        values = asdict(self)
        del values["number"], values["nonce"]  # the tag's name holds them
        client.set_registered_model_tag(self.promotion.model, self.tag, json.dumps(values, sort_keys=True))


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


def this_machine() -> str:
    """Return what names this host and its processes' numbers; "" where unknown."""
    try:  # containers of one host may share its name, but not their processes' numbers
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
