"""Promotion and rollback: which version is champion, with an append-only history.

MLflow has no compare-and-swap. So a change first claims the next number of the history, as a tag of the
registered model, and then reads who else claims it: of any two, the second to write sees the first. The claim
with the lowest rank never gives way to another claim: it waits until those that saw it have given way, or
until one that did not has made its change. When the aliases have moved, the claim becomes the history's
entry.
"""

import getpass
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

from mlflow import MlflowClient

from components.register.history import (
    ABANDONED,
    ACTIVE,
    Action,
    Entry,
    Promotion,
    read_entries,
    this_machine,
)
from components.shared.errors import ConfigError, UserError
from components.shared.tracking import mlflow_client, registry
from components.shared.tracking.failures import readable_errors
from components.shared.tracking.registry import CHALLENGER, CHAMPION, PREVIOUS

_WAIT, _WAITS = 0.2, 50
"""Seconds between looks at claims of a higher rank; looks, before the lower one gives way too."""


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

    Raises ConfigError: no such registry, model or version, no gate has passed it, or the challenger is the
    last champion (a rollback is not undone by default); UserError: another change is in progress.
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
        if version_or_alias == CHALLENGER and version == aliases.get(PREVIOUS):
            raise ConfigError(
                f"{model_name}: the challenger, version {version}, has been champion until version "
                f"{promotion.replaced} replaced it; to bring it back, name it: recllm promote {version}"
            )
        if action == "promote" and not reason:
            _check_gate(client, model_name, promotion.version)
        entry = Entry(
            number=number,
            nonce=uuid.uuid4().hex[:12],
            promotion=promotion,
            done=False,
            claimed_on=this_machine(),
            process=os.getpid(),
        )
        with _claimed(client, entry):
            # First: without it nothing has changed, after it `_settle` can do the rest.
            client.set_registered_model_alias(model_name, CHAMPION, promotion.version)
            _finish(client, entry)
    return promotion


@contextmanager
def _claimed(client: MlflowClient, entry: Entry) -> Iterator[None]:
    """Run the block when no other change claims the entry's number.

    Where anything fails, the claim ends. Raises UserError: another change goes on; ConfigError: the server
    does not keep the claim.
    """
    ACTIVE.add(entry.nonce)
    is_first = False
    try:
        entry.write(client)
        _wait_for_others(client, entry)
        is_first = True
        yield
    except BaseException:
        with suppress(Exception):  # the first failure is the cause to report
            # Connected anew: a server that is away is found out at once, not after minutes.
            _end(mlflow_client.connect(client.tracking_uri), entry, may_have_moved=is_first)
        raise
    finally:
        ACTIVE.discard(entry.nonce)


def _end(client: MlflowClient, entry: Entry, *, may_have_moved: bool) -> bool:
    """Finish the change if its champion has moved, else drop the claim; return which."""
    model = entry.promotion.model
    moved = may_have_moved and registry.aliases(client, model).get(CHAMPION) == entry.promotion.version
    if moved:
        _finish(client, entry)
    else:
        client.delete_registered_model_tag(model, entry.tag)
    return moved


def _finish(client: MlflowClient, entry: Entry) -> None:
    """Write the finished entry of a change whose champion has moved, after `previous` has."""
    if entry.promotion.replaced is not None:
        client.set_registered_model_alias(entry.promotion.model, PREVIOUS, entry.promotion.replaced)
    replace(entry, done=True).write(client)


def _check_gate(client: MlflowClient, model_name: str, version: str) -> None:
    """Raise ConfigError unless a gate has passed the version."""
    if client.get_model_version(model_name, version).tags.get(registry.GATE) != registry.PASSED:
        raise ConfigError(
            f"{model_name} version {version}: no gate has passed it (it has no tag "
            f"{registry.GATE}={registry.PASSED}); compare it in a run of the pipeline, or promote it with "
            "--force --reason TEXT, which the history keeps"
        )


def _wait_for_others(client: MlflowClient, entry: Entry) -> None:
    """Return when nobody else claims the entry's number. Raises as `_claimed`."""
    model = entry.promotion.model
    for _ in range(_WAITS):
        entries = read_entries(client, model)
        if entry.tag not in {found.tag for found in entries}:  # a gateway may answer writes that it drops
            raise ConfigError(
                f"{client.tracking_uri}: it accepted a tag of the model {model} and does not hold it; no "
                "version was promoted. Is this MLflow itself, and may you write there?"
            )
        rivals = [found for found in entries if found.number == entry.number and found.nonce != entry.nonce]
        if not rivals:
            return
        first = min(rivals, key=lambda found: (not found.done, found.rank))
        if first.done or first.rank < entry.rank:
            break
        time.sleep(_WAIT)
    raise UserError(
        f"{model}: {first.promotion.by} {'has changed' if first.done else 'is changing'} the champion to "
        f"version {first.promotion.version} at this moment (since {first.promotion.at}); nothing was changed "
        "here. Look at the outcome and try again; the claim of a killed command lapses at once where it ran, "
        f"elsewhere after {ABANDONED.seconds // 60} minutes"
    )


def _settle(client: MlflowClient, model_name: str) -> int:
    """Finish or drop what killed commands began; return the number of the last finished entry."""
    entries = read_entries(client, model_name)
    done = {entry.number for entry in entries if entry.done}
    going_on = {entry.number for entry in entries if not entry.done and not entry.is_abandoned}
    for entry in entries:
        # Beside a change that goes on, it is not known whose the champion is.
        if not entry.is_abandoned or entry.number in going_on:
            continue
        if _end(client, entry, may_have_moved=entry.number not in done):
            done.add(entry.number)
    return max(done, default=0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user id without a name
        return "unknown"
