"""Recommendations for raw tables by a registered version: real registry, Spark and tiny model."""

import contextlib
import signal
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from components.etl.config import SequencesConfig
from components.register.config import RegisterConfig
from components.register.job import run as register
from components.shared.artifacts.storage import local_copy
from components.shared.errors import ConfigError, ContractError, DataError, OutputError
from components.shared.prompting.settings import ServingConfig
from components.shared.spark.config import SparkConfig
from data_contracts.tables import SEQUENCES, USERS
from pipelines import recommend
from tests.components.shared.artifacts.s3_server import serving
from tests.small_spark import SPARK

CONFIG = SequencesConfig(spark=SPARK)
MODEL = "models:/recllm-r1@challenger"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def add_version(tracking_uri: str, tiny_model_folder, served_folder, make_report, tmp_path: Path):
    """Registers a further challenger."""
    (tmp_path / "users").write_bytes(b"a table")

    def add(run_key: str, answer: str = "reasoned") -> None:
        report = make_report(lineage={"run_key": run_key})
        (tmp_path / "report.json").write_text(report.to_json())
        serving = ServingConfig(max_new_tokens=4, dtype="float32", max_prompt_tokens=600, answer=answer)
        config = RegisterConfig(tracking_uri=tracking_uri, serving=serving)
        files = {name: tmp_path / name for name in ("users", "info.html", "report.json")}
        users, html, report = files.values()
        register(config, model=tiny_model_folder, served=served_folder, users=users, html=html, report=report)

    return add


@pytest.fixture
def registry(add_version, tracking_uri: str) -> str:
    add_version("run-1")
    return tracking_uri


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One user went from i02 to i03, one met what the version does not know, one did a lot, one nothing."""
    folder = tmp_path / "raw"
    folder.mkdir()
    items = [f"i{n:02}" for n in range(12)] + ["newer"]
    events = [
        "ann,i02,view,2026-01-01T00:00Z",
        "ann,i03,save,2026-01-02T00:00Z",
        "bob,newer,view,2026-01-02T00:00Z",
    ]
    times = (f"2025-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}Z" for n in range(10_000))
    events += [f"cyd,i{n % 3:02},view,{time}" for n, time in enumerate(times)]
    (folder / "users.csv").write_text("user_id,age,gender\nann,31,f\nbob,40,\ndan,22,m\n")
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"{i},Title of {i}\n" for i in items))
    (folder / "events.csv").write_text("user_id,item_id,action,timestamp\n" + "\n".join(events) + "\n")
    return folder


def test_everybody_is_ranked_and_what_is_missing_is_counted(registry, data, tmp_path, monkeypatch) -> None:
    (tmp_path / "ids.txt").write_text("ann\nbob\ncyd\ndan\nstranger\nann\n")
    out, work = tmp_path / "out", tmp_path / "work"
    asked = (MODEL, registry, CONFIG, str(data), tmp_path / "ids.txt", str(out), work, "scored")
    monkeypatch.setattr(recommend, "PART_USERS", 3)
    with monkeypatch.context() as patch:  # a kill after the first part
        patch.setattr(recommend, "_part", _once(recommend._part))
        with pytest.raises(KeyboardInterrupt):
            recommend.run(*asked)
    assert not out.exists()
    there = []
    with monkeypatch.context() as patch:
        part = recommend._part
        patch.setattr(recommend, "_part", lambda *given: there.append(given[-1].exists()) or part(*given))
        counts = recommend.run(*asked)
    assert there == [True, False]
    # A later command asks at its own time; the page of findings stays.
    assert [path.name for path in work.iterdir()] == ["data_docs.html"]
    found = {row["user_id"]: row for row in pq.read_table(out).to_pylist()}
    assert list(found) == ["ann", "bob", "cyd", "dan", "stranger"]
    assert vars(counts) == {
        "users": 5, "unknown_users": 1, "without_history": 2, "unknown_items": 1, "refused_users": 0,
        "valid_answers": 5,
    }  # fmt: skip
    assert {"i01", "i04"} <= set(found["ann"]["item_ids"])  # the neighbours of i02 and i03
    assert not {"i02", "i03"} & set(found["ann"]["item_ids"])
    for row in found.values():
        assert len(row["item_ids"]) == len(row["scores"]) == 4
        assert row["scores"] == sorted(row["scores"], reverse=True)


def test_an_alias_that_moves_meanwhile_changes_nothing(
    registry, add_version, data, tmp_path, monkeypatch
) -> None:
    load = recommend._load

    def load_later(*given):
        add_version("run-2", answer="scored")
        return load(*given)

    (tmp_path / "ids.txt").write_text("ann\n")
    asked = (registry, CONFIG, str(data), tmp_path / "ids.txt", str(tmp_path / "out"), tmp_path / "work")
    prepare = recommend._Asked.prepare
    histories: list = []  # read once: Spark takes most of the test
    with monkeypatch.context() as patch:
        patch.setattr(recommend, "_load", load_later)
        patch.setattr(
            recommend._Asked, "prepare", lambda *given: histories.append(prepare(*given)) or histories[0]
        )
        recommend.run(MODEL, *asked)
    assert pq.read_table(tmp_path / "out")["scores"].to_pylist() == [[]], "the first version reasons"
    monkeypatch.setattr(recommend._Asked, "prepare", lambda *_: histories[0])
    recommend.run(MODEL, *asked)
    assert len(pq.read_table(tmp_path / "out")["scores"][0]) == 4, "the second one scores"


def test_input_that_the_model_refuses_costs_that_user_alone(registry, data, tmp_path) -> None:
    long = "9" * 10_001
    lines = {
        "users.csv": f"gender,31,{long}\n",
        "items.csv": f"{long},Title\n",
        "events.csv": f"item_id,{long},like,2026-01-03T00:00Z\n",
    }
    for file, line in lines.items():
        with (data / file).open("a") as rows:
            rows.write(line)
    counts = recommend.run(
        MODEL, registry, CONFIG, str(data), None, str(tmp_path / "out"), tmp_path / "work", "scored"
    )
    found = {row["user_id"]: row for row in pq.read_table(tmp_path / "out").to_pylist()}
    assert vars(counts) == {
        "users": 6, "unknown_users": 0, "without_history": 2, "unknown_items": 1, "refused_users": 2,
        "valid_answers": 6,
    }  # fmt: skip
    assert {user: len(row["item_ids"]) for user, row in found.items()} == dict.fromkeys(found, 4)
    for field in ("gender", "item_id"):
        assert f"{field}: a text of 10,001 characters" in found[field]["fault"]
    assert [user for user, row in found.items() if row["fault"] is None] == ["ann", "bob", "cyd", "dan"]


def _once(real):
    calls = []

    def part(*arguments):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return real(*arguments)

    return part


@pytest.mark.slow
def test_object_storage_is_read_and_written(registry, data, tmp_path, monkeypatch) -> None:
    (tmp_path / "s3").mkdir()
    with serving(tmp_path / "s3") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = server.upload(data, "lake", "raw")
        out = bucket.replace("raw", "ranked")
        for _ in range(2):  # the second one replaces its own table
            counts = recommend.run(MODEL, registry, CONFIG, bucket, None, out, tmp_path / "work", "scored")
        assert (counts.users, counts.valid_answers) == (4, 4)
        found = pq.read_table(local_copy(out)).to_pydict()
        assert found["user_id"] == ["ann", "bob", "cyd", "dan"]
        with pytest.raises(DataError, match=r"s3://lake/raw: holds events\.csv.*would be lost"):
            recommend.run(MODEL, registry, CONFIG, bucket, None, bucket, tmp_path / "work", "scored")
        with pytest.raises(DataError, match="s3://lake/nowhere"):
            recommend.run(
                MODEL, registry, CONFIG, "s3://lake/nowhere", None, out, tmp_path / "work", "scored"
            )


def test_what_is_unfit_is_refused(registry, data, tmp_path) -> None:
    def run(model=MODEL, users=None, engine=""):
        out, work = str(tmp_path / "out"), tmp_path / "work"
        recommend.run(model, registry, CONFIG, str(data), users, out, work, engine=engine)

    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="no user id"):
        run(users=tmp_path / "empty.txt")
    for code in ("utf-16", "utf-16-le"):
        (tmp_path / "users.txt").write_bytes("ann\r\nbob\r\n".encode(code))
        with pytest.raises(DataError, match=r"users\.txt: line 1 is not .* is it UTF-16"):
            run(users=tmp_path / "users.txt")
    for wanted in ("@nobody", "/77"):
        with pytest.raises(ConfigError, match=f"no version or alias '{wanted[1:]}'; it has 1, challenger"):
            run(model=f"models:/recllm-r1{wanted}")
    with pytest.raises(ConfigError, match="no registered model 'other'"):
        run(model="models:/other@challenger")
    for name in ("recllm-r1", "models:/recllm-r1/challenger"):
        with pytest.raises(ConfigError, match=f"--model {name}: neither models:/NAME/VERSION nor"):
            run(model=name)
    client = MlflowClient(registry)
    hollow = client.create_model_version("recllm-r1", str(tmp_path)).version
    with pytest.raises(ConfigError, match=f"models:/recllm-r1/{hollow}: MLflow fails: "):
        run(model=f"models:/recllm-r1/{hollow}")
    with pytest.raises(ConfigError, match="the package vllm is not installed here"):
        run(engine="vllm")
    events = "user_id,item_id,action,timestamp\nann,i02,view,soon\nann,i03,7,2026-01-01\n"
    (data / "events.csv").write_text(events)
    with pytest.raises(ContractError, match="2 of 2 rows are faulty"):
        run()
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
from importlib import import_module
from pathlib import Path
from pipelines import recommend
from tests.components.serve.test_recommend import CONFIG, MODEL

owner, name, calls, *asked = sys.argv[1:]
registry, data, out, work = asked
owner = import_module(owner)
real, left = getattr(owner, name), int(calls)

def killed(*arguments, **options):
    global left
    done, left = real(*arguments, **options), left - 1
    return done if left else os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
recommend.PART_USERS = 1
recommend.run(MODEL, registry, CONFIG, data, None, out, Path(work), "scored")
"""
MOMENTS = {
    "histories written, their folder not yet in place": (
        "components.shared.artifacts.outputs",
        "write_json",
        1,
    ),
    "third part written, not yet in place": ("pyarrow.parquet", "write_table", 3),
    "all parts there, table not": ("pipelines.datasets.own_folder", "own_folder", 1),
}


@pytest.mark.slow
def test_a_killed_command_goes_on_and_its_table_is_whole(registry, data, tmp_path, monkeypatch) -> None:
    """Kills one command after the other with signal 9; the last attempt finishes what they began."""
    out, work = tmp_path / "out", tmp_path / "work"
    places = [registry, str(data), str(out), str(work)]
    for owner, name, calls in MOMENTS.values():
        command = [sys.executable, "-c", KILLED, owner, name, str(calls), *places]
        attempt = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert attempt.returncode == -signal.SIGKILL, attempt.stderr
        assert not out.exists()
    assert [file.name for file in sorted(work.rglob("part-0*"))][-4:] == [
        f"part-{n:05}.parquet" for n in range(4)
    ]
    monkeypatch.setattr(recommend, "PART_USERS", 1)
    asked = (MODEL, registry, CONFIG, str(data), None)
    assert recommend.run(*asked, str(out), work, "scored").users == 4
    recommend.run(*asked, str(tmp_path / "undisturbed"), work, "scored")
    assert pq.read_table(out) == pq.read_table(tmp_path / "undisturbed")
    assert [path.name for path in work.iterdir()] == ["data_docs.html"]


@pytest.mark.slow
@pytest.mark.parametrize("full", ["work", "out"])
def test_a_full_disk_is_named_and_the_same_command_finishes(
    registry, data, tmp_path, small_disk, full
) -> None:
    out, work = ((small_disk if name == full else tmp_path) / name for name in ("out", "work"))
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        with contextlib.suppress(OSError):
            file.write(bytes(40 << 10))
        asked = (MODEL, registry, CONFIG, str(data), None, str(out), work, "scored")
        with pytest.raises(OutputError, match="disk is full"):
            recommend.run(*asked)
    assert not out.exists()
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert recommend.run(*asked).users == 4
    assert pq.read_table(out).num_rows == 4


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["scored", "reasoned"])
def test_who_has_met_every_item_costs_nobody_an_answer(registry, data, tmp_path, answer) -> None:
    with (data / "events.csv").open("a") as events:
        events.writelines(f"all,i{n:02},like,2026-01-03T00:00Z\n" for n in range(12))
    for ids, lengths in (("all\nann\n", [0, 4]), ("all\n", [0])):
        (tmp_path / "ids.txt").write_text(ids)
        out = tmp_path / "out"
        asked = (MODEL, registry, CONFIG, str(data), tmp_path / "ids.txt", str(out), tmp_path / "work")
        assert recommend.run(*asked, answer).users == len(lengths)
        rows = pq.read_table(out).to_pylist()
        assert [len(row["item_ids"]) for row in rows] == lengths
        assert not rows[0]["valid"]


@pytest.fixture
def write_asked(tmp_path: Path):
    """Writes what an earlier attempt read: a file per list of rows."""

    def write(histories: list[list[dict]], profiles: list[list[dict]]) -> Path:
        for name, schema, files in (("histories", SEQUENCES, histories), ("users", USERS, profiles)):
            folder = tmp_path / "asked" / name
            folder.mkdir(parents=True)
            for number, rows in enumerate(files):
                pq.write_table(
                    pa.Table.from_pylist(rows, schema=schema), folder / f"part-{number:05}.parquet"
                )
        (tmp_path / "asked/now.json").write_text('"2026-01-03T00:00:00+00:00"')
        return tmp_path

    return write


def history(user: str, actions: list[list[str]]) -> dict:
    """Return a row of SEQUENCES: item n after n seconds and n microseconds, with these actions on it."""
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=n, microseconds=n) for n in range(9)]
    events = [
        {"position": position, "action": action, "timestamp": times[position]}
        for position, done in enumerate(actions)
        for action in done
    ]
    return {
        "user_id": user, "item_ids": [f"i{n}" for n in range(len(actions))],
        "timestamps": times[: len(actions)], "engagement": [1.0] * len(actions), "train_end": 0,
        "valid_end": 0, "events": events,
    }  # fmt: skip


def test_requests_hold_what_the_tables_hold_of_a_user(write_asked) -> None:
    histories = [[history("cyd", [["view"]]), history("ann", [["like"], ["view", "save"]])], [], []]
    profiles = [
        [{"user_id": "ann", "age": 31, "interests": ["tea", "go"]}],
        [{"user_id": "bob", "gender": ""}],
    ]
    asked = recommend._Asked.prepare(CONFIG, "", write_asked(histories, profiles))
    assert asked.everybody() == ["ann", "bob", "cyd"]
    found = {user: asked.request(user) for user in (*asked.everybody(), "stranger")}
    assert {row.pop("now") for row in found.values()} == {"2026-01-03T00:00:00+00:00"}
    assert found["ann"] == {
        "history": [
            {"item_id": "i0", "actions": ["like"], "timestamp": "2026-01-01T00:00:00+00:00"},
            {"item_id": "i1", "actions": ["view", "save"], "timestamp": "2026-01-01T00:00:01.000001+00:00"},
        ],
        "profile": {"age": "31", "interests": "tea, go"},
    }
    assert found["bob"] == found["stranger"] == {"history": [], "profile": None}
    assert len(found["cyd"]["history"]) == 1 and found["cyd"]["profile"] is None


def test_histories_that_wait_are_no_objects_of_python(write_asked) -> None:
    rows = [history(f"u{n}", [["view"] * 20] * 9) for n in range(300)]
    folder = write_asked([rows], [[]])
    recommend._Asked.prepare(CONFIG, "", folder)  # imports
    tracemalloc.start()
    asked = recommend._Asked.prepare(CONFIG, "", folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 * 1000
    assert len(asked.request("u299")["history"]) == 9


@pytest.mark.parametrize("name", ["exposures", "deep/below"])
def test_a_table_among_the_data_is_refused(data, name) -> None:
    with pytest.raises(DataError, match=f"{name}: lies in the data"):
        recommend.run(MODEL, "", CONFIG, str(data), None, str(data / name), data.parent)


def test_executors_elsewhere_are_refused_before_anything_is_read(tmp_path) -> None:
    config = SequencesConfig(spark=SparkConfig(master="k8s://https://kubernetes.default.svc"))
    with pytest.raises(ConfigError, match=r"sequences\.spark\.master is k8s://"):
        recommend.run(MODEL, "", config, "data", None, str(tmp_path / "out"), tmp_path / "work")
