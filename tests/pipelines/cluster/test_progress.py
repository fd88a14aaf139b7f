"""Following a run: a line per change, through an outage, to the cause of a failure."""

from typing import Any

import pytest

from pipelines.cluster import progress, runs
from pipelines.cluster.client import connect


def task(name: str, state: str, begun: int, ended: int = 0) -> dict[str, Any]:
    times = {"start_time": f"2026-11-26T20:55:{begun:02}Z"}
    if ended:
        times["end_time"] = f"2026-11-26T20:55:{ended:02}Z"
    return {"display_name": name, "state": state, **times}


def run(state: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": "r",
        "state": state,
        "created_at": "2026-11-26T20:55:00Z",
        "finished_at": "2026-11-26T20:56:00Z",
        "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
        "run_details": {"task_details": list(tasks)},
    }


def test_each_change_of_a_step_is_one_line(kubeflow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    looks = [
        run("RUNNING", task("window", "RUNNING", 10), task("root", "RUNNING", 1)),
        run("RUNNING", task("window", "SUCCEEDED", 10, 20), task("sft", "FAILED", 20, 30)),
        run("RUNNING", task("window", "SUCCEEDED", 10, 20), task("sft", "RUNNING", 31)),
        run("SUCCEEDED", task("window", "SUCCEEDED", 10, 20), task("sft", "SUCCEEDED", 31, 50)),
    ]
    client = connect(kubeflow.endpoint, "")
    client.get = lambda path: looks.pop(0)  # type: ignore[method-assign]
    progress.follow(client, "r", pause=0)
    assert capsys.readouterr().out.splitlines() == [
        "window: running",
        "window: done after 10 s",
        "sft: failed after 10 s",
        "sft: running",
        "sft: done after 19 s",
    ]


def test_a_failure_names_the_step_that_failed_first(kubeflow: Any) -> None:
    kubeflow.stored["runs"] = [
        run("FAILED", task("sft", "FAILED", 20, 30), task("gate-passed", "FAILED", 5, 40))
    ]
    with pytest.raises(progress.RunEndedBadlyError) as error:
        progress.follow(connect(kubeflow.endpoint, ""), "r", pause=0)
    assert str(error.value).splitlines() == [
        "step 'sft' failed: it left no log",
        "The whole log: recllm logs r sft",
        f"The run: {kubeflow.endpoint}/#/runs/details/r",
    ]


def test_a_cancelled_run_ends_the_waiting(kubeflow: Any) -> None:
    kubeflow.stored["runs"] = [run("CANCELED")]
    with pytest.raises(progress.RunEndedBadlyError, match="the run ended as CANCELED; see http"):
        progress.follow(connect(kubeflow.endpoint, ""), "r", pause=0)


def test_runs_of_other_pipelines_are_not_listed(kubeflow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    kubeflow.stored["pipelines"] = [{"display_name": "recllm-r1", "pipeline_id": "p"}]
    kubeflow.stored["versions"] = [{"display_name": "kind@0123", "pipeline_version_id": "v"}]
    other = run("SUCCEEDED") | {"pipeline_version_reference": {}}
    kubeflow.stored["runs"] = [other, run("FAILED", task("sft", "FAILED", 20, 30))]
    runs.show(connect(kubeflow.endpoint, ""))
    _, line = capsys.readouterr().out.splitlines()
    assert line.split() == ["r", "kind@0123", "failed", "in", "sft", "2026-11-26", "20:55", "60", "s"]
