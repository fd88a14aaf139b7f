"""The commands on a real Kubeflow, by the profile `kind`; pipelines/README.md says how to run them."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.shared import kubeflow
from pipelines.cluster.client import Client, connect

ENDPOINT = os.environ.get("RECLLM_KFP_ENDPOINT", "")
NAMESPACE = os.environ.get("RECLLM_KFP_NAMESPACE", "")
PROFILE = os.environ.get("RECLLM_KFP_PROFILE", "kind")
DATA = os.environ.get("RECLLM_KFP_DATA", "")
NAME = "cluster-test"

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not (ENDPOINT and DATA), reason="set RECLLM_KFP_ENDPOINT and RECLLM_KFP_DATA"),
]


def recllm(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    where = ("--endpoint", ENDPOINT, "--namespace", NAMESPACE)
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *arguments, *where],
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )


def succeed(*arguments: str, **variables: str) -> str:
    finished = recllm(*arguments, **variables)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def write_data(folder: Path, seed: int, *, without: str = "") -> str:
    """Put a generated log where the pods find it, in place of what is there; return its URI."""
    from components.shared.artifacts import storage
    from pipelines.datasets.synthetic.config import SampleConfig
    from pipelines.datasets.synthetic.log import generate

    generate(SampleConfig(users=60, items=80, seed=seed), folder / str(seed))
    uri = f"{DATA}/{without or 'whole'}"
    for file in (folder / str(seed)).iterdir():
        if file.stem != without:
            storage.upload(file, f"{uri}/{file.name}")
    return uri


def wait_for(found: Callable[[], Any], seconds: float = 1500) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(5)
    return value


@pytest.fixture(scope="module")
def client() -> Client:
    return connect(ENDPOINT, NAMESPACE)


def test_the_dag_runs_to_its_end(tmp_path: Path, client: Client) -> None:
    shown = succeed("submit", "--profile", PROFILE, "--data", write_data(tmp_path, 0), "--wait")
    assert "\nwindow: done" in shown and "\ngate: done" in shown
    (run,) = re.findall(r"^run (\S+) of", shown, flags=re.M)
    line = next(line for line in succeed("runs").splitlines() if line.startswith(run))
    assert f"{PROFILE}@" in line and "succeeded" in line
    assert "run key" in succeed("logs", run, "window")


def test_a_failing_step_says_why_also_after_its_pod_is_gone(tmp_path: Path, client: Client) -> None:
    from kubernetes.client import CoreV1Api

    data = write_data(tmp_path, 0, without="items")
    refused = recllm("submit", "--profile", PROFILE, "--data", data)
    assert refused.returncode == 1 and "no items table" in refused.stderr, "found before anything is sent"
    failed = recllm("submit", "--profile", PROFILE, "--data", data, "--wait", AWS_ACCESS_KEY_ID="")
    assert failed.returncode == 1 and "recllm: step 'window' failed: ConfigError: " in failed.stderr
    (run,) = re.findall(r"^run (\S+) of", failed.stdout, flags=re.M)
    before = succeed("logs", run, "window")
    assert "no items table" in before
    CoreV1Api(kubeflow.kubernetes()).delete_collection_namespaced_pod(
        client.namespace, label_selector=f"pipeline/runid={run}"
    )
    time.sleep(30)
    assert succeed("logs", run, "window") == before
    assert "failed in window" in next(line for line in succeed("runs").splitlines() if line.startswith(run))


@pytest.fixture
def scheduled(tmp_path: Path, client: Client) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """A schedule of every two minutes; returns its runs, the oldest first."""
    began = succeed("schedule", "--profile", PROFILE, "--name", NAME, "--list")
    assert NAME not in began
    known = {run["run_id"] for run in client.pages("runs", "runs", page_size=100)}
    data = write_data(tmp_path, int(time.time()))  # no earlier run has read the same
    said = succeed("schedule", "--profile", PROFILE, "--name", NAME, "--data", data, "--cron", "*/2 * * * *")
    assert said.count(" UTC\n") == 3

    def new() -> list[dict[str, Any]]:
        found = client.pages("runs", "runs", page_size=100, sort_by="created_at asc")
        return [run for run in found if run["run_id"] not in known and run.get("recurring_run_id")]

    yield new
    recllm("schedule", "--name", NAME, "--delete")
    for run in new():
        if run.get("state") in ("PENDING", "RUNNING"):
            client.post(f"runs/{run['run_id']}:terminate", {})


def logged(run: dict[str, Any], step: str, pattern: str) -> str:
    found = re.search(pattern, recllm("logs", run["run_id"], step).stdout)
    return found[1] if found else ""


def run_key(run: dict[str, Any]) -> str:
    return logged(run, "window", r"run key (\S+),")


def version(run: dict[str, Any], client: Client) -> str:
    """Return the version that `run` registered, once it has ended."""
    ended = wait_for(
        lambda: (new := client.get(f"runs/{run['run_id']}"))["state"] not in ("PENDING", "RUNNING") and new
    )
    assert ended["state"] == "SUCCEEDED"
    return logged(run, "register", r"version (\d+) is registered")


def test_a_schedule_retrains_on_new_data_and_is_replaced_while_it_runs(
    scheduled: Callable[[], list[dict[str, Any]]], client: Client, tmp_path: Path
) -> None:
    first = wait_for(scheduled)[0]
    wait_for(lambda: logged(first, "sequences", "(users kept)"))  # it has read the data
    key = run_key(first)
    write_data(tmp_path / "new", int(time.time()))
    again = ("schedule", "--profile", PROFILE, "--name", NAME, "--data", f"{DATA}/whole")
    succeed(*again, "--cron", "1-59/2 * * * *")
    (line,) = [line for line in succeed("schedule", "--list").splitlines() if line.startswith(NAME)]
    assert "1-59/2" in line and "enabled" in line

    second = wait_for(lambda: [run for run in scheduled() if run["run_id"] != first["run_id"]])[0]
    assert key != wait_for(lambda: run_key(second)), "new data give another run"
    succeed("schedule", "--name", NAME, "--pause")
    assert "paused" in succeed("schedule", "--list")
    succeed("schedule", "--name", NAME, "--delete")
    assert NAME not in succeed("schedule", "--list")
    # The deletion has left both runs alone.
    versions = version(first, client), version(second, client)
    assert all(versions) and versions[0] != versions[1], versions


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        pytest.param(
            ["--data", "s3://b/d"], {"KF_PIPELINES_SA_TOKEN_PATH": "/nowhere"}, "cannot be read", id="token"
        ),
        pytest.param(["--data", "/home/me"], {}, "pods do not see it", id="a local folder"),
    ],
)
def test_bad_input_submits_nothing(
    arguments: list[str], variables: dict[str, str], message: str, client: Client
) -> None:
    def newest() -> str:  # its state may change meanwhile
        return next(client.pages("runs", "runs", page_size=1, sort_by="created_at desc"), {}).get(
            "run_id", ""
        )

    before = newest()
    refused = recllm("submit", "--profile", PROFILE, *arguments, **variables)
    assert refused.returncode == 1 and message in refused.stderr
    assert newest() == before


@pytest.mark.parametrize(("product", "gpus"), [("NVIDIA-NONE", 1), ("NVIDIA-H800", 4096)])
def test_gpus_that_no_node_has_are_refused_before_anything_is_submitted(
    product: str, gpus: int, tmp_path: Path
) -> None:
    from pipelines.profile import load, to_yaml

    change = {"placement": {"sft": {"gpus": gpus, "gpu_products": [product]}}}
    (tmp_path / "gpus.yaml").write_text(to_yaml(load(PROFILE, change)))
    refused = recllm("submit", "--profile", str(tmp_path / "gpus.yaml"), "--data", f"{DATA}/whole")
    assert refused.returncode == 1 and f"no node has {gpus} of {product}" in refused.stderr
