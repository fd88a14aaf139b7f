"""What MLflow's failures mean: the HTTP status, MLflow's own words, and what to do about it."""

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mlflow.exceptions import MlflowException

from components.shared.errors import ConfigError, with_causes

Found = TypeVar("Found")

_LIBRARIES = ("mlflow", "requests", "sqlalchemy", "sqlite3", "botocore", "boto3", "google")
"""Whose errors are MLflow's: its own, and those of the stores beneath it, which it lets through."""

_STATUS_IN_TEXT = re.compile(
    r"error code ([45]\d\d)\b|too many ([45]\d\d) error responses|([45]\d\d) (?:Client|Server) Error|"
    r"An error occurred \(([45]\d\d)\)"
)
_LONGEST = 400
"""Characters of MLflow's words that are shown; proxies answer with whole pages."""

_HINTS = {
    401: "give credentials that it knows: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_TOKEN",
    403: "these credentials may not do this; ask for the right to read and to write there",
    404: "is this the address of an MLflow server, path included?",
    413: "the server, or a proxy before it, refuses files of this size; raise its limit",
    429: "it has too many requests; try again later",
}
_IN_TROUBLE = "the server, or a proxy before it, is in trouble; read its log and try again"


@contextmanager
def readable_errors(source: str) -> Iterator[None]:
    """Turn what MLflow raises within the block into a ConfigError naming `source`, status and hint."""
    try:
        yield
    except Exception as error:
        if not is_of_mlflow(error):
            raise
        raise ConfigError(f"{without_password(source)}: MLflow fails: {describe(error)}") from error


def is_of_mlflow(error: BaseException) -> bool:
    """Return whether MLflow, or a library through which it stores, raised `error`."""
    return type(error).__module__.partition(".")[0] in _LIBRARIES


def is_absence(error: BaseException) -> bool:
    """Return whether MLflow, not a gateway before it, says that something is absent."""
    is_said = getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"
    return is_said and status(error) in (None, 404)


def unless_absent(ask: Callable[[], Found]) -> Found | None:
    """Return what `ask` returns; None if MLflow says that it is absent."""
    try:
        return ask()
    except MlflowException as error:
        if is_absence(error):
            return None
        raise


def describe(error: BaseException) -> str:
    """Return the status, if any, the error's words on one line, and a hint."""
    found, words = status(error), " ".join(without_password(str(error)).split())
    shown = words if len(words) <= _LONGEST else f"{words[:_LONGEST]} …"
    prefix = "" if found is None else f"HTTP status {found}: "
    return "; ".join([prefix + shown, *_hint(error, found, words)])


def status(error: BaseException) -> int | None:
    """Return the HTTP status of the response that `error` is about; None without one."""
    # MLflow's words do not always repeat those of the cause.
    return next((found for one in with_causes(error) if (found := _own_status(one))), None)


def _own_status(error: BaseException) -> int | None:
    # MLflow forgets the status of an answer in JSON that is not its own, such as a gateway's.
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        answered = getattr(frame.f_locals.get("response"), "status_code", None)
        if isinstance(answered, int) and answered >= 400:
            return answered
    metadata = getattr(error, "response", None)  # of botocore's errors, a mapping
    if isinstance(metadata, dict) and "HTTPStatusCode" in metadata.get("ResponseMetadata", {}):
        return int(metadata["ResponseMetadata"]["HTTPStatusCode"])
    found = _STATUS_IN_TEXT.search(str(error))
    return next((int(number) for number in found.groups() if number), None) if found else None


def _hint(error: BaseException, found: int | None, words: str) -> list[str]:
    code = getattr(error, "error_code", "")
    if code in ("RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE") or is_absence(error):
        return []  # MLflow's own words, which say all
    of_store = any(type(one).__module__.startswith("boto") for one in with_causes(error))
    if of_store and found is not None and found >= 500:
        return ["the object storage of the artifacts is in trouble; read its log and try again"]
    if of_store or "Unable to locate credentials" in words:
        return ["the artifacts lie in object storage: are its AWS_… keys and AWS_ENDPOINT_URL right?"]
    if found == 403 and ("Host header" in words or "cross-origin" in words):
        return ["start it with --allowed-hosts and --cors-allowed-origins that name this address"]
    if found is not None:
        return [_HINTS.get(found, _IN_TROUBLE if found >= 500 else "is the tracking URI right?")]
    if "not in a valid JSON format" in words or type(error).__module__.startswith("google.protobuf"):
        return ["what answers there is no MLflow server, or a login page stands before it"]
    if "redirects" in words:
        return ["a login page stands before it: give credentials or a token, or the address behind it"]
    if "failed with exception" in words or type(error).__module__.startswith("requests"):
        return ["no whole answer came; is it running?"]
    if type(error).__module__ == "sqlite3" or "sqlite3." in words or "database schema" in words:
        return ["is the database whole, writable, used by nobody else now, and of this MLflow's version?"]
    return ["is the tracking URI right?"]


def without_password(text: str) -> str:
    """Return `text` without the users and passwords that its URIs may hold."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)
