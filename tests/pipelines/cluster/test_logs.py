"""Logs: the step's own lines, the cause in one line, and Argo's node ids."""

from typing import Any

import pytest

from pipelines.cluster import logs
from pipelines.cluster.client import ClusterError, connect

LOG = """I1126 20:55:56.089229      18 main.go:67] Setting log level to: '1'
[KFP Executor 2026-11-26 20:55:56,590 INFO]: Looking for component `make` in --component_module_path `/tmp/x`
[KFP Executor 2026-11-26 20:55:56,597 INFO]: Got executor_input:
{
    "inputs": {
    }
}
[KFP Executor 2026-11-26 20:55:57,000 INFO]: 3/10, loss 2.1
Traceback (most recent call last):
  File "job.py", line 1, in run
components.shared.errors.ConfigError: the run would fail, so it ends here:
- GPUs: no node has 8 of NVIDIA-H800
I1126 20:55:56.635767      18 launcher_v2.go:1230] ExecutorOutput: {
  "artifacts": {}
}
time="2026-11-26T20:55:57Z" level=info msg="sub-process exited"
Error: exit status 1
"""
OWN = [
    "3/10, loss 2.1",
    "Traceback (most recent call last):",
    '  File "job.py", line 1, in run',
    "components.shared.errors.ConfigError: the run would fail, so it ends here:",
    "- GPUs: no node has 8 of NVIDIA-H800",
]


def test_the_engines_lines_are_left_out_and_the_cause_is_the_error() -> None:
    assert logs.own_lines(LOG) == OWN
    assert logs.cause(OWN) == (
        "ConfigError: the run would fail, so it ends here: - GPUs: no node has 8 of NVIDIA-H800"
    )


def test_what_the_launcher_died_of_is_the_cause() -> None:
    log = (
        "I1126 22:03:51.188652      15 launcher_v2.go:206] publish success.\n"
        "F1126 22:03:51.195934      15 main.go:59] failed to execute component: mkdir /tmp/kfp: read-only\n"
    )
    assert logs.cause(logs.own_lines(log)) == "failed to execute component: mkdir /tmp/kfp: read-only"
    assert (
        logs.own_lines("F1126 22:03:51.1      15 main.go:59] failed to execute component: exit status 1")
        == []
    )


@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        pytest.param(["KeyError: 'x'", "bye"], "KeyError: 'x'", id="an error, then more"),
        pytest.param(["a", "Killed", ""], "Killed", id="no error"),
        pytest.param([], "", id="nothing"),
    ],
)
def test_the_cause_is_one_line(lines: list[str], cause: str) -> None:
    assert logs.cause(lines) == cause


def task(name: str, *children: str, **more: Any) -> dict[str, Any]:
    return {
        "display_name": name,
        "child_tasks": [{"pod_name": f"trivial-vj2ph-{child}"} for child in children],
        **more,
    }


# As Argo 4.0.8 named them; the last is the entry of a step that may be reused.
RUN = {
    "run_id": "r",
    "run_details": {
        "task_details": [
            task("trivial-vj2ph", "1835795604"),
            task("trivial-vj2ph(0)", "564845562"),
            task("root", "949363617"),
            task("root(0)", "1147919456"),
            task("make", "873948602"),
            task("make(0)", "2348202017", "1534136390"),
            task("executor", "3504655480"),
            task("executor(0)"),
            {"task_id": "127650a8", "start_time": "2026-11-26T23:05:51Z", "execution_id": "210"},
        ]
    },
}


def test_a_steps_log_is_found_by_its_nodes_name(kubeflow: Any) -> None:
    client = connect(kubeflow.endpoint, "")
    kubeflow.logs["trivial-vj2ph-3504655480"] = LOG
    assert logs.read(client, RUN, "make") == OWN
    with pytest.raises(ClusterError, match="no step 'bake' so far; it has make"):
        logs.read(client, RUN, "bake")
    with pytest.raises(ClusterError, match="no step 'make' so far; it has none"):
        logs.read(client, {"run_id": "r", "state": "PENDING"}, "make")
    kubeflow.logs["trivial-vj2ph-3504655480"] = LOG.splitlines()[0]  # a driver's, where outputs are reused
    with pytest.raises(ClusterError, match="outputs are those of an earlier run"):
        logs.read(client, RUN, "make")
    kubeflow.logs.clear()
    with pytest.raises(ClusterError, match="no longer kept"):
        logs.read(client, RUN, "make")
