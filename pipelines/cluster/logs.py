"""What a step printed, and why it failed or waits."""

import re
from typing import Any

from components.shared import causes, kubeflow
from pipelines.cluster.client import Client, ClusterError

# Lines of KFP's launcher and executor, and of Argo's; some begin a block of JSON.
_ENGINE = re.compile(
    r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ \S+\.go:\d+\]|time=\"|Error: exit status|F\d{4} .*exit status|"
    r"\[KFP Executor [^]]*\]: (Looking for component|Loading KFP component|Got executor_input|Wrote executor)"
)
# What the launcher died of is kept: it is the only cause there is.
_PREFIX = re.compile(r"^(\[KFP Executor [^]]*\]: |F\d{4} [^]]*\.go:\d+\] )")
_EXITED = re.compile(r"main: Error \(exit code \d+\)")  # the step's log says more
_ERROR = re.compile(r"(?:\w+\.)*(\w*(?:Error|Exception|Interrupt|Exit)\b.*)")


def read(client: Client, run: dict[str, Any], step: str) -> list[str]:
    """Return the lines that the latest attempt of `step` with any printed itself.

    Raises: ClusterError if the run has no such step, or nothing that it printed is left.
    """
    names = {task["display_name"] for task in kubeflow.steps(run)}
    if step not in names:
        raise ClusterError(
            f"run {run['run_id']} has no step '{step}' so far; it has {', '.join(sorted(names)) or 'none'}"
        )
    for node in _nodes(run, step):
        try:
            if lines := own_lines(client.log(run["run_id"], node)):
                return lines
        except ClusterError as error:
            if error.status in (0, 401, 403):
                raise
    raise ClusterError(
        f"step '{step}' has printed nothing: it has not started, its outputs are those of an earlier run, or "
        "its log is no longer kept"
    )


def own_lines(log: str) -> list[str]:
    """Return the lines of `log` without the engine's."""
    kept, in_block = [], False
    for line in log.splitlines():
        if in_block:
            in_block = line != "}"
        elif _ENGINE.match(line):
            in_block = line.endswith(("{", "executor_input:"))
        else:
            kept.append(_PREFIX.sub("", line))
    return kept


def cause(lines: list[str]) -> str:
    """Return in one line why a step that printed `lines` failed."""
    if thrown := causes.within(lines):
        return thrown
    for index in reversed(range(len(lines))):
        if found := _ERROR.fullmatch(lines[index]):
            more = lines[index + 1 : index + 2] if lines[index].endswith(":") else []
            return " ".join([found[1], *(line.strip() for line in more)])
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _nodes(run: dict[str, Any], step: str) -> list[str]:
    """Return Argo's ids of the containers of `step`, the latest attempt first.

    The API tells ids of children and names, but not which belong together: an id holds its name's hash.
    """
    tasks = kubeflow.tasks(run)
    shown = {task["display_name"] for task in tasks}
    ids = {child.get("pod_name", "") for task in tasks for child in task.get("child_tasks", [])} - {""}
    workflow = next(iter(ids), "").rpartition("-")[0]
    names, waiting = set(), [workflow]
    while waiting:
        parent = waiting.pop()
        names.add(parent)
        last = parent.rpartition(".")[2] + "("
        inner = {f"{parent}.{name}" for name in shown}
        inner |= {parent + name.removeprefix(last[:-1]) for name in shown if name.startswith(last)}
        waiting += [name for name in inner - names if _node(workflow, name) in ids]
    container = re.compile(rf".*\.{re.escape(step)}(-driver)?(\(\d+\))?(\.executor)?(\(\d+\))?")
    # A driver's log counts where its step never started.
    own = sorted(filter(container.fullmatch, names), key=lambda name: ("-driver" not in name, name))
    return [_node(workflow, name) for name in reversed(own)]


def _node(workflow: str, name: str) -> str:
    """Return Argo's id of the node called `name`: FNV-1a of 32 bits (workflow/util NodeID)."""
    digest = 0x811C9DC5
    for byte in name.encode():
        digest = (digest ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{workflow}-{digest}"


def messages(namespace: str, run_id: str) -> dict[str, str]:
    """Return by step what Kubernetes says of pods that wait, were refused or were ended.

    Raises: what Kubernetes' client raises where there is no cluster, or no right to read its workflows.
    """
    from kubernetes.client import CustomObjectsApi

    found = CustomObjectsApi(kubeflow.kubernetes()).list_namespaced_custom_object(
        "argoproj.io",
        "v1alpha1",
        namespace,
        "workflows",
        label_selector=f"pipeline/runid={run_id}",
        _request_timeout=5,
    )
    nodes = [node for flow in found["items"] for node in flow.get("status", {}).get("nodes", {}).values()]
    nodes.sort(key=lambda node: node.get("startedAt", ""))
    return {
        _step(node["name"]): node["message"]
        for node in nodes
        if node["type"] == "Pod"
        and node["phase"] in ("Pending", "Error", "Failed")
        and node.get("message")
        and not _EXITED.fullmatch(node["message"])
    }


def _step(name: str) -> str:
    """Return the step of the node called `name`, such as flow(0).root(0).sft(0).executor(1)."""
    return re.sub(r"\(\d+\)", "", name).removesuffix(".executor").rpartition(".")[2]
