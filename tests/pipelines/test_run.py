"""Whole runs of the compiled DAG with the `tiny` profile: real Spark, real training, a real registry."""

import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from pipelines.experiments.report import verdict

RECLLM = [sys.executable, "-m", "pipelines.cli"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def recllm(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RECLLM, *arguments], cwd=cwd, capture_output=True, text=True, timeout=1100)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run on the generated log: its folder, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    run = recllm("run", "--profile", "tiny", cwd=folder)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder, run.stdout


@pytest.fixture
def warm(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A folder whose runs find the steps in the cache that do not depend on data."""
    shutil.copytree(finished[0] / "runs" / "cache", tmp_path / "runs" / "cache")
    return tmp_path


def test_the_run_compares_all_models_and_says_where_everything_lies(finished: tuple[Path, str]) -> None:
    folder, shown = finished
    for comparator in ("popularity", "item_to_item", "sasrec", "online", "candidates", "base", "sft", "grpo"):
        assert f"│ {comparator} " in shown
    places = dict(
        line.split(maxsplit=1) for line in shown.splitlines() if line.startswith(("report:", "log:"))
    )
    page = Path(places["report:"]).read_text()
    assert all(title in page for title in ("passed the gate", "item_to_item", "git_commit"))
    links = re.findall(r'href="(pages/[a-z]+\.html)"', page)
    assert len(links) == 8
    assert all("<html" in (Path(places["report:"]).parent / link).read_text() for link in links)
    assert Path(places["log:"]).is_file()
    assert "mlflow ui --backend-store-uri sqlite:///" in shown
    assert "recllm promote --model recllm-r1 --tracking-uri sqlite:///" in shown
    assert not list((folder / "runs" / "checkpoints").iterdir())


def test_the_challenger_answers_and_can_be_promoted(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    folder, _ = finished
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/runs/mlflow.db")
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("recllm-r1", "challenger")
    assert version.tags["data_fingerprint"]
    assert version.tags["run_key"].startswith("tiny-")
    model = mlflow.pyfunc.load_model("models:/recllm-r1@challenger")
    candidates = [{"item_id": f"i{n}", "title": f"Title {n}", "topic": "tea"} for n in range(6)]
    history = [
        {"title": "Old", "topic": "tea", "actions": ["view", "like"], "timestamp": "2026-01-01T00:00:00Z"}
    ]
    answer = model.predict(pd.DataFrame([{"history": history, "candidates": candidates}]))
    assert sorted(answer["item_ids"][0]) == sorted(one["item_id"] for one in candidates)
    promoted = recllm("promote", cwd=folder)
    assert promoted.returncode == 0, promoted.stderr
    assert client.get_model_version_by_alias("recllm-r1", "champion").version == version.version


def test_a_second_run_uses_finished_steps_again_and_meets_the_champion(finished: tuple[Path, str]) -> None:
    folder, shown = finished
    again = recllm("run", "--profile", "tiny", cwd=folder)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "used again: sequences, retrieve, prompts, sft, grpo\n" in again.stdout
    assert "version 1 was already registered" in again.stdout, "the same data, code and settings"
    assert "│ champion " in again.stdout
    newest = Path(recllm("open", "--no-browser", cwd=folder).stdout.strip())
    assert str(newest) in again.stdout
    assert "<html" in (newest.parent / "pages" / "sft.html").read_text(), "also pages of steps used again"

    def figures(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith(("│ sft", "│ grpo", "│ sasrec"))]

    assert figures(again.stdout) == figures(shown)


def test_an_experiment_shares_finished_steps_compares_its_variants_and_registers_nothing(
    finished: tuple[Path, str],
) -> None:
    folder, _ = finished
    versions = len(list((folder / "runs").glob("*/*/register")))
    done = recllm("experiment", "sft-only", "--profile", "tiny", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("used again: sequences, retrieve, prompts, sft") == 2
    (written,) = (folder / "runs" / "experiments").iterdir()
    report = json.loads((written / "report.json").read_text())
    assert list(report["variants"]) == ["SFT and GRPO", "SFT only"]
    page = (written / "report.html").read_text()
    links = re.findall(r'<a href="([^"]+)"', page)
    assert len(links) == 2
    assert all("Evaluation report" in (written / link).read_text() for link in links)
    assert report["made_from"]["SFT only"]["changes"] == {"grpo": {"engine": "local", "steps": 0}}
    assert report["made_from"]["SFT only"]["lineage"]["profile"] == "tiny"
    assert verdict(report["variants"]) in done.stdout
    assert len(list((folder / "runs").glob("*/*/register"))) == versions


@pytest.fixture(scope="module")
def small_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    assert recllm("sample", "--out", "log", "--users", "30", "--items", "40", cwd=folder).returncode == 0
    return folder / "log"


def test_a_broken_table_ends_the_run_with_its_cause(small_log: Path, warm: Path) -> None:
    shutil.copytree(small_log, warm / "log")
    events = pd.read_parquet(warm / "log" / "events.parquet").drop(columns="action")
    events.to_parquet(warm / "log" / "events.parquet")
    run = recllm("run", "--profile", "tiny", "--data", "log", cwd=warm)
    assert run.returncode == 1
    assert "step 'window' failed" in run.stderr
    assert "events.parquet" in run.stderr
    assert "action" in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(warm.glob("runs/*/*/sequences"))


def test_an_interrupted_run_leaves_no_process_and_nothing_half_written(
    small_log: Path, tmp_path: Path
) -> None:
    command = [*RECLLM, "run", "--profile", "tiny", "--data", str(small_log)]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout
    for line in process.stdout:
        if "users: 30 rows" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the same command resumes" in error
    assert "Traceback" not in error
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert not list(tmp_path.glob("runs/*/*/sequences/sequences/*")), "nothing half-written"


def test_amazon_reviews_go_through_the_whole_pipeline(shared_data: Path, warm: Path) -> None:
    """The first 400 users of Amazon Beauty, from the official files to a registered model."""
    source = shared_data / "amazon2014"
    users: dict[str, None] = {}
    with gzip.open(source / "reviews_Beauty_5.json.gz", "rt") as lines:
        kept = []
        for line in lines:
            user = line.split('"reviewerID": "')[1].split('"')[0]
            if user in users or len(users) < 400:
                users[user] = None
                kept.append(line)
    with gzip.open(warm / "reviews_Beauty_5.json.gz", "wt") as file:
        file.writelines(kept)
    arguments = [
        "--reviews",
        "reviews_Beauty_5.json.gz",
        "--meta",
        str(source / "meta_Beauty.json.gz"),
        "--out",
        "beauty",
    ]
    imported = recllm("import", "amazon", *arguments, cwd=warm)
    assert imported.returncode == 0, imported.stderr
    assert "400 users" in imported.stdout
    run = recllm("run", "--profile", "tiny", "--data", "beauty", cwd=warm)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "│ sasrec " in run.stdout
