"""Which connections NetworkPolicies allow, by the rules of networking.k8s.io/v1."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.k8s.manifests import Manifest, of_kind

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A pod, or an address outside the cluster (without a namespace)."""

    address: str
    namespace: str = ""
    labels: Labels = field(default_factory=dict, hash=False)


class Network:
    """The policies of some manifests, and the labels of the namespaces."""

    def __init__(self, manifests: Iterable[Manifest], namespaces: Iterable[str]) -> None:
        manifests = list(manifests)
        self.policies = of_kind(manifests, "NetworkPolicy")
        self.namespaces = {name: {"kubernetes.io/metadata.name": name} for name in namespaces}
        for manifest in of_kind(manifests, "Namespace"):
            self.namespaces[manifest["metadata"]["name"]] |= manifest["metadata"].get("labels", {})

    def allows(self, source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
        """Return whether both ends let the connection pass."""
        return self._passes(source, "Egress", target, port, protocol) and self._passes(
            target, "Ingress", source, port, protocol
        )

    def _passes(self, pod: Peer, direction: str, other: Peer, port: int, protocol: str) -> bool:
        mine = [
            policy
            for policy in self.policies
            if policy["metadata"]["namespace"] == pod.namespace
            and _selects(policy["spec"]["podSelector"], pod.labels)
            and direction in policy["spec"]["policyTypes"]
        ]
        side = "to" if direction == "Egress" else "from"
        rules = [rule for policy in mine for rule in policy["spec"].get(direction.lower(), [])]
        return not mine or any(
            (not rule.get(side) or any(self._is(peer, other, pod.namespace) for peer in rule[side]))
            and (not rule.get("ports") or any(_fits(entry, port, protocol) for entry in rule["ports"]))
            for rule in rules
        )

    def _is(self, peer: Manifest, other: Peer, own_namespace: str) -> bool:
        if block := peer.get("ipBlock"):
            # Kubernetes leaves open whether blocks hold for pods; with most network plug-ins they do.
            inside = [
                ip_address(other.address) in ip_network(c) for c in (block["cidr"], *block.get("except", []))
            ]
            return inside[0] and not any(inside[1:])
        if not other.namespace:
            return False
        selector = peer.get("namespaceSelector")
        if selector is None:
            here = other.namespace == own_namespace
        else:
            here = _selects(selector, self.namespaces[other.namespace])
        return here and _selects(peer.get("podSelector", {}), other.labels)


def _fits(entry: Mapping[str, Any], port: int, protocol: str) -> bool:
    return entry.get("protocol", "TCP") == protocol and entry.get("port", port) == port


def _selects(selector: Manifest, labels: Labels) -> bool:
    wanted = selector.get("matchLabels", {}).items()
    return all(labels.get(key) == value for key, value in wanted) and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions", [])
    )


def _holds(expression: Manifest, labels: Labels) -> bool:
    found = labels.get(expression["key"])
    match expression["operator"]:
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "In":
            return found in expression["values"]
        case _:
            return found not in expression["values"]
