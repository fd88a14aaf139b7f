"""Schedules: one per name whatever is interrupted, and never one that runs twice."""

from typing import Any

import pytest

from components.shared.errors import ConfigError
from pipelines.cluster import schedule
from pipelines.cluster.client import ClusterError, connect
from pipelines.cluster.submit import Version

VERSION = Version(
    name="kind@0123", pipeline_id="p", version_id="v1", experiment_id="e", service_account="runner"
)
NEWER = Version(
    name="kind@4567", pipeline_id="p", version_id="v2", experiment_id="e", service_account="runner"
)
DATA = "s3://b/data"


def put(kubeflow: Any, version: Version = VERSION, cron: str = "0 3 * * *") -> None:
    schedule.put(connect(kubeflow.endpoint, ""), "nightly", cron, version, DATA)


def test_a_new_schedule_is_pinned_and_says_its_next_times(
    kubeflow: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    put(kubeflow)
    (one,) = kubeflow.stored["recurringruns"]
    assert (one["status"], one["no_catchup"], one["max_concurrency"]) == ("ENABLED", True, "1")
    assert one["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert one["pipeline_version_reference"]["pipeline_version_id"] == "v1"
    assert one["runtime_config"] == {"parameters": {"data": DATA}}
    assert one["service_account"] == "runner"
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "schedule 'nightly': kind@0123 at '0 3 * * *' UTC, one run at a time"
    assert len(said) == 4 and all(line.endswith("03:00 UTC") for line in said[1:])


def test_the_same_command_changes_nothing(kubeflow: Any) -> None:
    put(kubeflow)
    before = kubeflow.changes()
    put(kubeflow)
    assert kubeflow.changes() == before


def test_a_new_one_takes_over_before_any_time_is_served_twice(kubeflow: Any) -> None:
    put(kubeflow)
    kubeflow.stored["recurringruns"].append({**kubeflow.stored["recurringruns"][0], "display_name": "other"})
    put(kubeflow, NEWER)
    assert [change.split("/")[0] for change in kubeflow.changes()[-3:]] == [
        "POST recurringruns",
        "DELETE recurringruns",
        "POST recurringruns",
    ]
    (deleted,) = [query for method, _, query in kubeflow.requests if method == "DELETE"]
    assert deleted == {"propagation_policy": "ORPHAN"}  # the running run goes on
    other, mine = kubeflow.stored["recurringruns"]
    assert (other["display_name"], mine["display_name"], mine["status"]) == (
        "other",
        "recllm-r1 nightly",
        "ENABLED",
    )
    assert mine["pipeline_version_reference"]["pipeline_version_id"] == "v2"


def test_another_release_of_the_backend_makes_another_schedule(kubeflow: Any) -> None:
    put(kubeflow)
    kubeflow.health["tag_name"] = "2.18.0"
    put(kubeflow)
    assert len(kubeflow.changes()) == 5 and len(kubeflow.stored["recurringruns"]) == 1


@pytest.mark.parametrize("kill", range(4))
@pytest.mark.parametrize("replaces", [False, True])
def test_killed_after_any_request_the_same_command_leaves_one(
    kill: int, replaces: bool, kubeflow: Any
) -> None:
    if replaces:
        put(kubeflow)
    kubeflow.dies_after = len(kubeflow.changes()) + kill
    changes_needed = 3 if replaces else 2
    if kill < changes_needed:
        with pytest.raises(ClusterError, match="no answer"):
            put(kubeflow, NEWER)
    else:
        put(kubeflow, NEWER)
    enabled = [one for one in kubeflow.stored["recurringruns"] if one["status"] == "ENABLED"]
    assert len(enabled) <= 1, "no time is served twice"
    kubeflow.dies_after = -1
    put(kubeflow, NEWER)
    (one,) = kubeflow.stored["recurringruns"]
    assert (one["status"], one["pipeline_version_reference"]["pipeline_version_id"]) == ("ENABLED", "v2")


def test_resuming_makes_up_for_nothing(kubeflow: Any) -> None:
    put(kubeflow)
    client = connect(kubeflow.endpoint, "")
    (before,) = kubeflow.stored["recurringruns"]
    schedule.pause(client, "nightly")
    assert kubeflow.stored["recurringruns"][0]["status"] == "DISABLED"
    schedule.resume(client, "nightly")
    (after,) = kubeflow.stored["recurringruns"]
    assert after["recurring_run_id"] != before["recurring_run_id"], "enabling would serve the missed time"
    assert (after["status"], after["description"]) == ("ENABLED", before["description"])


def test_schedules_are_listed_and_deleted_by_name(kubeflow: Any, capsys: pytest.CaptureFixture[str]) -> None:
    put(kubeflow)
    capsys.readouterr()
    client = connect(kubeflow.endpoint, "")
    schedule.show(client)
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[:1] == ["nightly"] and "0 3 * * * UTC: kind@0123" in line and line.split()[-1] == DATA
    with pytest.raises(ConfigError, match="no schedule 'weekly'; there is nightly"):
        schedule.delete(client, "weekly")
    schedule.delete(client, "nightly")
    assert kubeflow.stored["recurringruns"] == []
