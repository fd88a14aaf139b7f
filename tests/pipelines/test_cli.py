"""The command line: answers at once, and a mistake is one message and exit code 1."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.shared.errors import ConfigError
from data_contracts.tables import ACTIONS
from pipelines.cli import registry

RECLLM = [sys.executable, "-m", "pipelines.cli"]


def recllm(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # Other tests of the same process set it, as mlflow.set_tracking_uri does.
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | variables
    return subprocess.run(
        [*RECLLM, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, env=env
    )


def test_help_lists_the_commands_without_loading_anything_heavy(tmp_path: Path) -> None:
    shown = recllm("--help", cwd=tmp_path).stdout
    for command in (
        "run",
        "open",
        "experiment",
        "compile",
        "doctor",
        "submit",
        "runs",
        "logs",
        "schedule",
        "profile",
        "sample",
        "import",
        "promote",
        "rollback",
    ):
        assert f"  {command} " in shown
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, pipelines.cli; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"torch", "kfp", "pyspark", "mlflow", "pandas", "transformers", "yaml", "pydantic"} & set(
        loaded
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["run", "--profile", "huge"], "profile 'huge': neither one of", id="unknown profile"),
        pytest.param(["compile", "--profile", "tiny"], "'tiny': no `placement`", id="a local profile"),
        pytest.param(
            ["compile", "--out", "pipeline.json"], "name a file that ends in .yaml", id="another format"
        ),
        pytest.param(
            ["compile", "--out", "/proc/1/x/p.yaml"],
            "--out /proc/1/x/p.yaml: cannot be written",
            id="no folder",
        ),
        pytest.param(["doctor", "--data", ""], '--data "": names no folder', id="an unset variable"),
        pytest.param(
            ["run", "--profile", "tiny", "--data", "nowhere"],
            "nowhere: no such folder; it must hold",
            id="no data",
        ),
        pytest.param(
            ["run", "--profile", "tiny", "--data", ".", "--runs", "/dev/null/runs"],
            "--runs /dev/null/runs: cannot be written to",
            id="runs cannot be made",
        ),
        pytest.param(
            ["run", "--profile", "tiny", "--data", ".", "--runs", "/proc"],
            "--runs /proc: cannot be written to",
            id="runs cannot be written to",
        ),
        pytest.param(
            ["experiment", "luck"],
            "experiment 'luck': there is seeds, control, sft-only",
            id="no experiment",
        ),
        pytest.param(
            ["profile", "show", "huge"], "profile 'huge': neither one of", id="show unknown profile"
        ),
        pytest.param(["open"], "runs: no report.html there", id="nothing to open"),
        pytest.param(["open", "mine"], "runs/mine: no report.html there", id="no such run"),
        pytest.param(
            ["schedule", "--data", "s3://b/d", "--cron", "0 0 3 * * *"], "has 6 fields", id="six cron fields"
        ),
        pytest.param(
            ["schedule", "--cron", "0 3 * * *"], "give --cron with --data", id="a schedule without data"
        ),
        pytest.param(
            ["submit", "--data", "s3://b/d", "--endpoint", "http://127.0.0.1:9"],
            "no answer from Kubeflow Pipelines at http://127.0.0.1:9",
            id="no Kubeflow",
        ),
        pytest.param(
            ["submit", "--data", "s3://b/d", "--as-of", "tomorrow"], "as_of='tomorrow'", id="no such time"
        ),
        pytest.param(["promote"], "no database at", id="nothing to promote"),
        pytest.param(["serve", "--host", "192.0.2.1"], "--host 192.0.2.1 --port 8080: cannot", id="address"),
        pytest.param(["rollback", "--runs", "mine"], "mine/mlflow.db", id="nothing to roll back"),
        pytest.param(
            ["import", "amazon", "--reviews", "r.json.gz", "--meta", "m.json.gz", "--out", "out"],
            "r.json.gz",
            id="no reviews",
        ),
    ],
)
def test_a_mistake_is_one_message(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "lists.yaml").write_text("sequences: {exposures: nowhere}\n")
    finished = recllm(*arguments, cwd=tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("recllm: ")
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "runs").exists()


def test_a_negative_seed_is_refused(tmp_path: Path) -> None:
    finished = recllm("sample", "--seed", "-1", "--out", "out", cwd=tmp_path)
    assert finished.returncode == 2
    assert "Invalid value for '--seed'" in finished.stderr and not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    refused = recllm("sample", "--users", "5", "--out", ".", cwd=tmp_path)
    assert (
        refused.returncode == 1 and "holds notes.txt, which would be lost" in refused.stderr + refused.stdout
    )
    refused = recllm("sample", "--users", "5", "--out", "notes.txt", cwd=tmp_path)
    assert refused.returncode and "notes.txt" in refused.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_corrupt_gzip_names_the_file(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"reviewerID": "A", "asin": "B", "unixReviewTime": 1}\n' * 500)
    (tmp_path / "r.json.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "m.json.gz").write_bytes(gzip.compress(b"{'asin': 'B', 'title': 'T'}\n"))
    finished = recllm(
        "import", "amazon", "--reviews", "r.json.gz", "--meta", "m.json.gz", "--out", "out", cwd=tmp_path
    )
    assert (finished.returncode, (tmp_path / "out").exists()) == (1, False)
    assert "r.json.gz" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_an_import_reports_faults_with_an_example(tmp_path: Path) -> None:
    (tmp_path / "users.dat").write_text("1::F::old::4::48067\n")
    (tmp_path / "movies.dat").write_text("7::Heat::Crime\n")
    (tmp_path / "ratings.dat").write_text("1::7::5::86400\n")
    files = (argument for name in ("users", "movies", "ratings") for argument in (f"--{name}", f"{name}.dat"))
    finished = recllm("import", "movielens", *files, "--out", "out", cwd=tmp_path)
    assert finished.stdout.splitlines()[:2] == [
        "recllm.import: user without a usable age: 1 times, such as users.dat, line 1: '1::F::old::4::48067'",
        "wrote out: 1 users, 1 items, 1 events",
    ]


def test_sample_and_compile_write_what_they_say(tmp_path: Path) -> None:
    arguments = ("--out", "log", "--users", "30", "--items", "40", "--dirty-share", "0.2")
    assert recllm("sample", *arguments, cwd=tmp_path).returncode == 0
    actions = set(pq.read_table(tmp_path / "log" / "events.parquet")["action"].to_pylist())
    assert actions - set(ACTIONS), "faulty rows are among them"
    assert {path.stem for path in (tmp_path / "log").glob("*.parquet")} == {
        "users",
        "items",
        "events",
        "exposures",
    }
    compiled = recllm("compile", "--out", "p.yaml", cwd=tmp_path, RECLLM_GIT_COMMIT="0123456789abcdef")
    assert compiled.returncode == 0, compiled.stderr
    assert "localhost/recllm-r1/ops:0123456789abcdef" in (tmp_path / "p.yaml").read_text()


def test_profiles_are_listed_and_shown(tmp_path: Path) -> None:
    assert recllm("profile", "list", cwd=tmp_path).stdout.split() == ["h800", "kind", "laptop", "tiny"]
    (tmp_path / "mine.yaml").write_text("sft: {epochs: 3}\n")
    assert "  epochs: 3\n" in recllm("profile", "show", "mine.yaml", cwd=tmp_path).stdout


def test_open_finds_the_newest_run_or_the_named_one(tmp_path: Path) -> None:
    for age, name in ((0, "new"), (100, "old")):
        page = tmp_path / "runs" / name / "report.html"
        page.parent.mkdir(parents=True)
        page.write_text("<html>")
        os.utime(page, (1e9 - age, 1e9 - age))
    for arguments, run in (([], "new"), (["old"], "old"), (["runs/old"], "old")):
        shown = recllm("open", "--no-browser", *arguments, cwd=tmp_path)
        assert shown.stdout == f"{tmp_path}/runs/{run}/report.html\n"


@pytest.mark.parametrize(
    ("environment", "tracking_uri", "runs", "expected"),
    [
        pytest.param("", "", None, "sqlite:///{cwd}/runs/mlflow.db", id="nothing given"),
        pytest.param("http://env", "", None, "http://env", id="the environment"),
        pytest.param("http://env", "", Path("mine"), "sqlite:///{cwd}/mine/mlflow.db", id="--runs wins"),
        pytest.param(
            "http://env", "http://me:pass@given", None, "http://me:pass@given", id="an address wins"
        ),
    ],
)
def test_the_registry_that_a_command_changes_is_printed(
    environment, tracking_uri, runs, expected, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    monkeypatch.chdir(tmp_path)
    expected = expected.format(cwd=tmp_path)
    assert registry.registry_uri(tracking_uri, runs) == expected
    assert capsys.readouterr().out == f"registry: {expected.replace('me:pass@', '')}\n"


def test_two_registries_are_one_too_many(tmp_path) -> None:
    with pytest.raises(ConfigError, match="give one"):
        registry.registry_uri("http://given", tmp_path)
