"""What the cluster is asked before a run: the version of Kubeflow Pipelines, and its nodes' GPUs."""

import re
from collections.abc import Sequence
from typing import Any

from components.shared import kubeflow
from components.shared.errors import ConfigError
from components.window.config import GPU, PRODUCT, GpuRequest

NEEDED = (2, 17)
"""The first version of Kubeflow Pipelines that fills in the scheduled time."""
_NEEDED = ".".join(map(str, NEEDED))


class NotChecked(Exception):
    """What is asked cannot be found out from here; the message says why."""


def check_version(unfilled: Sequence[str]) -> str:
    """Return the backend's version.

    Raises: ConfigError if it is too old or has left `unfilled` placeholders, NotChecked if it is unknown.
    """
    address = kubeflow.endpoint()
    version, reason = _version(address) if address else ("", "its address is not known here")
    if unfilled:
        found = f"version {version}" if version else f"its version ({reason})"
        raise ConfigError(
            f"{found} hands over {', '.join(unfilled)} as it stands; {_NEEDED} fills it in: upgrade it"
        )
    if reason:
        raise NotChecked(reason)
    if not require(version, address):
        raise NotChecked(f"{address} says that it is {version}")
    return f"{version} at {address}"


def require(version: str, address: str) -> bool:
    """Return whether Kubeflow Pipelines' `version` is known. Raises ConfigError: it is too old."""
    number = re.match(r"(\d+)\.(\d+)", version)
    if number and tuple(map(int, number.groups())) < NEEDED:
        raise ConfigError(f"version {version} at {address} is too old; {_NEEDED} is needed: upgrade it")
    return bool(number)


def _version(address: str) -> tuple[str, str]:
    """Return the version, or "" and why there is none."""
    try:
        return str(kubeflow.get("healthz")["tag_name"]), ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        return "", f"{address} does not say its version: {error}"


def check_gpus(requests: Sequence[GpuRequest]) -> str:
    """Return the products of the cluster's nodes, with the GPUs of a node.

    Raises: ConfigError naming every request that no node meets, NotChecked if the nodes cannot be listed.
    """
    found: dict[str, int] = {}
    for node in _nodes():
        if product := (node.metadata.labels or {}).get(PRODUCT):
            number = int((node.status.allocatable or {}).get(GPU, 0))
            found[product] = max(number, found.get(product, 0))
    listed = ", ".join(f"{product} ({n} a node)" for product, n in found.items()) or "none"
    faults = [
        f"no node has {request.gpus} of {' or '.join(request.products)}; found: {listed}; correct gpus and "
        f"gpu_products, or let NVIDIA's GPU feature discovery label the nodes with {PRODUCT}"
        for request in requests
        if all(found.get(product, 0) < request.gpus for product in request.products)
    ]
    if faults:
        raise ConfigError("\n".join(faults))
    return listed


def _nodes() -> list[Any]:
    """Return the nodes of this pod's cluster, or of kubectl's current one. Raises NotChecked."""
    from kubernetes.client import CoreV1Api

    try:
        return CoreV1Api(kubeflow.kubernetes()).list_node(_request_timeout=5).items
    except Exception as error:  # no configuration, network or right: each library has errors of its own
        reason = getattr(error, "reason", "") or error
        raise NotChecked(f"the cluster's nodes cannot be listed ({reason})") from error
