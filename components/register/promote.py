"""Promotion and rollback: which version is champion, with a history that is only ever added to.

MLflow has no compare-and-swap. So a change first claims the next number of the history as a tag of the
registered model, then looks whether anybody else claims the same number. Of two at once, at most one
can see itself alone: whoever writes second sees the first. A claim turns into the history's entry when
the aliases have moved.
"""

import getpass
import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from components.register import registry
from components.register.registry import CHALLENGER, CHAMPION, PREVIOUS
from components.shared.errors import ConfigError, UserError
from components.shared.tracking import mlflow_client

HISTORY = "promotion."
_ABANDONED = timedelta(minutes=5)  # a change takes seconds; an older claim was left by a killed command


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """One entry of the history. `replaced` is the champion before; `changed` is False for a no-op."""

    model: str
    action: Literal["promote", "rollback"]
    version: str
    replaced: str | None
    at: str  # ISO 8601, UTC
    by: str
    changed: bool = True

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.model} version {self.version} is the champion already"
        before = f"version {self.replaced}, now `{PREVIOUS}`" if self.replaced else "no champion"
        return f"{self.model} version {self.version} is the champion now; before: {before}"


def promote(tracking_uri: str, model_name: str, version_or_alias: str = CHALLENGER) -> Promotion:
    """Make a version the champion and the old champion `previous`. Does nothing if it is champion.

    Raises:
        ConfigError: no registry, no such model, version or alias. UserError: somebody else is changing
            the champion at this moment.
    """

    def choose(client: MlflowClient, champion: str | None) -> str:
        return _resolve(client, model_name, version_or_alias)

    return _change(tracking_uri, model_name, "promote", choose)


def rollback(tracking_uri: str, model_name: str) -> Promotion:
    """Make `previous` the champion again; the two change places, so a second rollback undoes the first.

    Raises:
        ConfigError: no registry, no such model, no previous champion. UserError: somebody else is
            changing the champion at this moment.
    """

    def choose(client: MlflowClient, champion: str | None) -> str:
        previous = registry.version_by_alias(client, model_name, PREVIOUS)
        if previous is None:
            raise ConfigError(f"{model_name} has no previous champion to roll back to")
        return previous

    return _change(tracking_uri, model_name, "rollback", choose)


def history(tracking_uri: str, model_name: str) -> list[Promotion]:
    """Return every promotion and rollback that happened, oldest first."""
    client = mlflow_client.connect(tracking_uri)
    with mlflow_client.readable_errors(tracking_uri):
        claims = _claims(client, model_name)
    done = sorted((number, entry) for (number, _), entry in _finished(claims).items())
    return [Promotion(**json.loads(entry)["promotion"]) for _, entry in done]


def _change(
    tracking_uri: str,
    model_name: str,
    action: Literal["promote", "rollback"],
    choose: Callable[[MlflowClient, str | None], str],
) -> Promotion:
    client = mlflow_client.connect(tracking_uri)
    with mlflow_client.readable_errors(tracking_uri):
        _settle(client, model_name)
        number = max((number for number, _ in _finished(_claims(client, model_name))), default=0) + 1
        champion = registry.version_by_alias(client, model_name, CHAMPION)  # read after the history
        promotion = Promotion(
            model=model_name,
            action=action,
            version=choose(client, champion),
            replaced=champion,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=_user(),
        )
        if promotion.version == champion:
            return Promotion(**{**asdict(promotion), "replaced": None, "changed": False})
        tag = _claim(client, promotion, number)
        _move(client, promotion)
        client.set_registered_model_tag(model_name, tag, _entry(promotion, done=True))
    return promotion


def _claim(client: MlflowClient, promotion: Promotion, number: int) -> str:
    """Claim `number` of the history and return its tag. Raises UserError if somebody else claims it."""
    nonce = uuid.uuid4().hex[:12]
    tag = f"{HISTORY}{number:06d}.{nonce}"
    client.set_registered_model_tag(promotion.model, tag, _entry(promotion, done=False))
    rivals = [
        entry
        for (other, name), entry in _claims(client, promotion.model).items()
        if other == number and name != nonce
    ]
    if rivals:
        client.delete_registered_model_tag(promotion.model, tag)
        rival = Promotion(**json.loads(rivals[0])["promotion"])
        raise UserError(
            f"{promotion.model}: {rival.by} is changing the champion to version {rival.version} at this "
            f"moment (since {rival.at}); nothing was changed here. Look at the outcome and try "
            f"again; the claim of a killed command lapses after {_ABANDONED.seconds // 60} minutes"
        )
    return tag


def _settle(client: MlflowClient, model_name: str) -> None:
    """Close what killed commands left: a claim whose champion reigns did happen, any other did not."""
    for (number, nonce), entry in _claims(client, model_name).items():
        if not _abandoned(entry):
            continue
        tag, left = f"{HISTORY}{number:06d}.{nonce}", Promotion(**json.loads(entry)["promotion"])
        if registry.version_by_alias(client, model_name, CHAMPION) == left.version:
            client.set_registered_model_tag(model_name, tag, _entry(left, done=True))
        else:
            client.delete_registered_model_tag(model_name, tag)


def _move(client: MlflowClient, promotion: Promotion) -> None:
    """Set `previous` first: if the second call is never made, the champion is still the old one."""
    if promotion.replaced is not None:
        client.set_registered_model_alias(promotion.model, PREVIOUS, promotion.replaced)
    client.set_registered_model_alias(promotion.model, CHAMPION, promotion.version)


def _resolve(client: MlflowClient, model_name: str, version_or_alias: str) -> str:
    if not version_or_alias.isdigit():
        found = registry.version_by_alias(client, model_name, version_or_alias)
        if found is None:
            raise ConfigError(
                f"{model_name} has no version with the alias '{version_or_alias}'; it has "
                f"{_known(client, model_name)}"
            )
        return found
    try:
        return str(client.get_model_version(model_name, version_or_alias).version)
    except MlflowException as error:
        if error.error_code != mlflow_client.DOES_NOT_EXIST:
            raise
        raise ConfigError(
            f"{model_name} has no version {version_or_alias}; it has {_known(client, model_name)}"
        ) from error


def _known(client: MlflowClient, model_name: str) -> str:
    return ", ".join(str(one.version) for one in registry.versions(client, model_name)) or "none"


def _claims(client: MlflowClient, model_name: str) -> dict[tuple[int, str], str]:
    """Return the claims and entries of the history by number and nonce."""
    try:
        tags = client.get_registered_model(model_name).tags
    except MlflowException as error:
        if error.error_code != mlflow_client.DOES_NOT_EXIST:
            raise
        raise ConfigError(f"there is no registered model '{model_name}'; register one first") from error
    split = {name: name.removeprefix(HISTORY).split(".") for name in tags if name.startswith(HISTORY)}
    return {(int(number), nonce): tags[name] for name, (number, nonce) in split.items()}


def _finished(claims: dict[tuple[int, str], str]) -> dict[tuple[int, str], str]:
    return {key: entry for key, entry in claims.items() if json.loads(entry)["done"]}


def _abandoned(entry: str) -> bool:
    values = json.loads(entry)
    started = datetime.fromisoformat(values["promotion"]["at"])
    return not values["done"] and datetime.now(UTC) - started > _ABANDONED


def _entry(promotion: Promotion, *, done: bool) -> str:
    return json.dumps({"done": done, "promotion": asdict(promotion)}, sort_keys=True)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a pod's user id without a name
        return "unknown"
