"""Registering and fetching on a real SQLite registry, with a real tiny model."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kfp.dsl import HTML, Artifact, Model

from components.register import component
from components.register.config import RegisterConfig, RegistryConfig
from components.register.job import run, run_champion
from components.register.promote import promote
from components.shared.config import from_mapping, to_parameter
from components.shared.errors import ConfigError, DataError, ModelError, OutputError, UserError
from components.shared.prompting.settings import ServingConfig
from components.shared.tracking import evaluation
from components.shared.tracking.mlflow_client import connect, experiment_id
from components.shared.tracking.registry import aliases, versions
from components.window.history import History
from data_contracts.evaluation import DataSummary

MODEL = "recllm-r1"


def test_a_version_carries_lineage_figures_and_files(config, inputs, tmp_path) -> None:
    assert run(config, **inputs) == "1"
    client = connect(config.tracking_uri)
    assert aliases(client, MODEL)["challenger"] == "1"
    (version,) = versions(client, MODEL)
    assert version.tags["run_key"] == "run-1"
    assert version.tags["git_commit"] == "abc"
    assert version.tags["rows"] == '{"n": 3}'
    assert version.tags["gate"] == "passed"
    assert not [name for name in version.tags if "ndcg" in name]
    assert "### Limits" in version.description and "run-1" in version.description
    metrics = client.get_run(version.run_id).data.metrics
    assert metrics["sasrec/ndcg_at_10"] == pytest.approx(0.15)
    assert metrics["grpo/ndcg_at_10_low"] == pytest.approx(0.18)
    assert metrics["grpo/valid_share"] == 1.0
    files = {one.path for one in client.list_artifacts(version.run_id)}
    assert files == {"report.json", "lineage.json", "users.parquet"}
    assert "recllm-r1, version 1" in (tmp_path / "info.html").read_text()


def test_the_logged_model_is_linked_with_its_evaluation_and_data(config, inputs) -> None:
    run(config, **inputs)
    client = connect(config.tracking_uri)
    (version,) = versions(client, MODEL)
    model_id = version.source.removeprefix("models:/")
    logged = client.get_logged_model(model_id)
    assert (logged.name, logged.status, logged.source_run_id) == ("grpo", "READY", version.run_id)
    assert logged.tags["run_key"] == "run-1" and "torch==" in logged.tags["libraries"]
    found = {metric.key: metric for metric in logged.metrics}
    assert found["grpo/ndcg_at_10"].value == pytest.approx(0.20)
    assert (found["grpo/ndcg_at_10"].dataset_name, found["grpo/ndcg_at_10"].dataset_digest) == ("may", "f00d")
    assert not [name for name in found if name.startswith("sasrec")]
    evaluated = client.get_run(version.run_id)
    (data,) = evaluated.inputs.dataset_inputs
    assert (data.dataset.source, data.dataset.source_type) == ('{"uri": "s3://logs/may"}', "s3")
    assert [model.model_id for model in evaluated.inputs.model_inputs] == [model_id]


def test_the_model_stands_at_the_pipelines_run_in_mlflows_table_of_runs(config, inputs, monkeypatch) -> None:
    monkeypatch.setenv("RECLLM_PIPELINE_RUN", "task-1")
    client = connect(config.tracking_uri)
    experiment = experiment_id(client, config.experiment)
    window = History(client, experiment, "task-1")
    window.begin("key of the data", "")
    window.complete("", "run-1", {})
    run(config, **inputs)
    (parent,) = client.search_runs([experiment], "attributes.run_name = 'run-1'")
    (version,) = versions(client, MODEL)
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert logged.source_run_id == parent.info.run_id != version.run_id
    assert [output.model_id for output in parent.outputs.model_outputs] == [logged.model_id]


def test_a_run_has_one_version_however_often_it_registers(config, inputs, of_run, tmp_path) -> None:
    first = run(config, **inputs)
    again = run(config, **inputs)
    other = run(config, **of_run({"run_key": "run-2"}))
    assert (first, again, other) == ("1", "1", "2")
    client = connect(config.tracking_uri)
    experiment = client.get_experiment_by_name(config.experiment)
    assert len(client.search_runs([experiment.experiment_id])) == len(versions(client, MODEL)) == 2
    assert aliases(client, MODEL)["challenger"] == "2"
    run(config, **inputs)  # an older run again: the newer challenger stays
    assert aliases(connect(config.tracking_uri), MODEL)["challenger"] == "2"


def test_a_run_key_never_stands_for_another_model(config, inputs, tmp_path) -> None:
    assert run(config, **inputs) == "1"
    for name in ("tokenizer_config.json", "model.safetensors"):
        other = shutil.copytree(inputs["model"], tmp_path / f"other-{name}")
        with (other / name).open("ab") as file:
            file.write(b" ")
        (tmp_path / "info.html").unlink(missing_ok=True)
        with pytest.raises(ConfigError, match="1 has this run's key 'run-1', but is another model"):
            run(config, **inputs | {"model": other})
        assert not (tmp_path / "info.html").exists()
    serving = dataclasses.replace(config, serving=ServingConfig(max_new_tokens=5, dtype="float32"))
    served = shutil.copytree(inputs["served"], tmp_path / "served")
    (served / "more").touch()
    for changed in ((serving, inputs), (config, inputs | {"served": served})):
        with pytest.raises(ConfigError, match="is another model"):
            run(changed[0], **changed[1])
    assert len(versions(connect(config.tracking_uri), MODEL)) == 1


@pytest.mark.parametrize(
    "broken",
    [
        "components.shared.tracking.evaluation.figures",
        "components.register.packaging.build",
        "mlflow.MlflowClient.log_model_artifacts",
        "mlflow.MlflowClient.finalize_logged_model",
        "mlflow.MlflowClient.create_model_version",
    ],
)
def test_an_interrupted_call_leaves_no_version_and_the_next_one_resumes(
    config, inputs, tmp_path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    class Stop(BaseException):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(broken, stop)
        with pytest.raises(Stop):
            run(config, **inputs)
    client = connect(config.tracking_uri)
    assert versions(client, MODEL) == []
    assert not (tmp_path / "info.html").exists()
    assert run(config, **inputs) == "1"
    experiment = client.get_experiment_by_name(config.experiment)
    runs = client.search_runs([experiment.experiment_id])
    assert [one.info.status for one in runs] == ["FINISHED"]  # the interrupted run was resumed
    models = client.search_logged_models([experiment.experiment_id])
    assert [str(one.status) for one in models] == ["READY"]


def test_without_a_champion_the_folder_says_so(config, tmp_path) -> None:
    nowhere = dataclasses.replace(config, tracking_uri=f"sqlite:///{tmp_path}/none/mlflow.db")
    run_champion(nowhere, "", tmp_path / "champion")
    assert [path.name for path in (tmp_path / "champion").iterdir()] == ["none.txt"]
    assert not (tmp_path / "none").exists()


def test_the_champion_is_the_model_that_was_registered(config, inputs, tmp_path) -> None:
    run(config, **inputs)
    promote(config.tracking_uri, MODEL)
    run_champion(config, "1", tmp_path / "champion")
    for path in inputs["model"].iterdir():
        assert (tmp_path / "champion" / path.name).read_bytes() == path.read_bytes()
    assert [one.name for one in tmp_path.glob(".champion*")] == []


def test_the_summary_of_its_training_data_travels_with_the_version(
    config, inputs, make_report, tmp_path
) -> None:
    summary = DataSummary(
        users=1,
        items=1,
        events=1,
        interactions=1,
        actions={},
        popular={},
        new_item_share=0.0,
        history_lengths={},
        refused={},
    )
    inputs["report"].write_text(make_report(lineage={"run_key": "run-1"}, data=summary).to_json())
    run(config, **inputs)
    run_champion(config, "1", tmp_path / "champion")
    assert DataSummary.read(tmp_path / "champion" / "data_summary.json") == summary


def test_a_disk_too_full_for_the_champion_is_no_fault_of_the_champion(
    config, inputs, tmp_path, small_disk
) -> None:
    run(config, **inputs)
    promote(config.tracking_uri, MODEL)
    with pytest.raises(OutputError, match="champion is not written: a disk is full"):
        run_champion(config, "1", small_disk / "champion")
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize(
    ("ranker", "message"),
    [({"answers": "embeddings"}, "'embeddings' is not one of generate"), ({"depth": 3}, "'depth'")],
)
def test_a_champion_that_ranks_in_a_way_of_another_version_is_refused(
    ranker, message, config, inputs, tmp_path
) -> None:
    client = connect(config.tracking_uri)
    client.create_registered_model(MODEL)
    packaged = tmp_path / "packaged"
    model = shutil.copytree(inputs["model"], packaged / "model")
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(values | {"ranker": ranker}))
    flavors = {"python_function": {"artifacts": {"model": {"path": "model"}}}}
    (packaged / "MLmodel").write_text(json.dumps({"flavors": flavors}))
    client.create_model_version(MODEL, packaged.as_uri())
    with pytest.raises(
        ConfigError, match=rf"recllm-r1 version 1 \(alias champion\) ranks .*{message}.*delete"
    ):
        run_champion(config, "1", tmp_path / "champion")
    assert not (tmp_path / "champion").exists()


def test_a_champion_whose_files_are_gone_is_named(config, tmp_path) -> None:
    client = connect(config.tracking_uri)
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, (tmp_path / "gone").as_uri())
    client.set_registered_model_alias(MODEL, "champion", "1")
    with pytest.raises(
        ConfigError, match=r"recllm-r1 version 1 \(alias champion\): its files cannot be read"
    ):
        run_champion(config, "1", tmp_path / "champion")
    assert not (tmp_path / "champion").exists()


LOAD = """
import doctest, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/recllm-r1@challenger")
own = [module for name, module in sys.modules.items() if name.startswith("recllm_")]
assert any(module.__name__.endswith(".language_model.load") for module in own)
assert all(module.__spec__.origin.startswith(sys.argv[2]) for module in own if module.__spec__.origin)
assert not {"components", "data_contracts"} & set(sys.modules)
candidates = [{"item_id": "b", "title": "B", "topic": "x"}, {"item_id": "a", "title": "A"}]
history = [{"title": "C", "actions": ["like"], "timestamp": "2026-01-01"}]
rows = [{"history": history, "candidates": candidates}, {"history": [], "candidates": candidates[:1]}]
rows = pd.DataFrame(rows)
answer = model.predict(rows)
print(answer.to_json(orient="records"))
print(len(model.predict(rows[:0])))
seen = [{"item_id": item, "actions": ["view"], "timestamp": "2026-01-01"} for item in ("i03", "gone")]
found = model.predict(pd.DataFrame([{"history": seen}, {"history": []}]))
print(found.to_json(orient="records"))
try:
    model.predict(pd.DataFrame([{"history": [{**seen[0], "actions": []}]}]))
except Exception as error:
    print(error)
documented = type(model.unwrap_python_model()).__doc__
example = doctest.DocTestParser().get_doctest(documented, {}, "example", None, 0)
print(doctest.DocTestRunner().run(example))
"""


@pytest.mark.slow
def test_the_version_loads_and_answers_without_the_repository(config, inputs, tmp_path) -> None:
    version = run(config, **inputs)
    promote(config.tracking_uri, MODEL)
    source = connect(config.tracking_uri).get_model_version_download_uri(MODEL, version)
    folder = source.removeprefix("file://")
    done = subprocess.run(
        [sys.executable, "-c", LOAD, config.tracking_uri, folder],
        cwd=tmp_path, capture_output=True, text=True, env={"PATH": "", "HOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, empty, retrieved, no_action, example = done.stdout.splitlines()[-5:]
    rest = {"scores": [], "rationale": "", "valid": False}
    assert json.loads(rows) == [
        {"item_ids": ["b", "a"], **rest, "unknown_items": 1},
        {"item_ids": ["b"], **rest, "unknown_items": 0},
    ]
    assert empty == "0"
    known, cold = json.loads(retrieved)
    assert set(known["item_ids"][:2]) == {"i02", "i04"} and known["unknown_items"] == 1
    assert len(cold["item_ids"]) == 4 and cold["unknown_items"] == 0
    assert no_action.startswith("row 0.history[0].actions: needs at least 1")
    assert example == "TestResults(failed=0, attempted=6)"


@pytest.mark.parametrize(
    ("lineage", "message"),
    [
        pytest.param({}, "'run_key' of its lineage is None", id="missing"),
        pytest.param({"run_key": ""}, "'run_key' of its lineage is ''", id="empty"),
        pytest.param({"run_key": "a' OR 1=1"}, "'run_key' of its lineage is", id="quotes"),
        pytest.param({"run_key": 7}, "'run_key' of its lineage is 7", id="a number"),
    ],
)
def test_a_version_belongs_to_a_run(config, of_run, lineage, message) -> None:
    with pytest.raises(ConfigError, match=message):
        run(config, **of_run(lineage))


@pytest.mark.parametrize(
    ("field", "error"),
    [pytest.param("model", ModelError, id="model"), pytest.param("report", DataError, id="report")],
)
def test_missing_inputs_are_named_and_register_nothing(config, inputs, tmp_path, field, error) -> None:
    with pytest.raises(error, match="nowhere"):
        run(config, **inputs | {field: tmp_path / "nowhere"})
    assert versions(connect(config.tracking_uri), MODEL) == []


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        pytest.param("http://127.0.0.1:9", "no answer from http://127.0.0.1:9", id="no server"),
        pytest.param("ftp://x", "neither http", id="scheme"),
        pytest.param("sqlite:////proc/none/mlflow.db", "/proc/none cannot be made", id="no folder"),
    ],
)
def test_an_unusable_tracking_uri_is_named(config, inputs, tmp_path, uri, message) -> None:
    with pytest.raises(UserError, match=message):
        run(dataclasses.replace(config, tracking_uri=uri), **inputs)


def test_the_environment_names_the_registry_where_the_profile_does_not(
    config, inputs, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", config.tracking_uri)
    run(dataclasses.replace(config, tracking_uri=""), **inputs)
    assert len(versions(connect(config.tracking_uri), MODEL)) == 1


def test_the_components_pass_everything_on(config, inputs, tmp_path) -> None:
    info, champion = HTML(uri=str(tmp_path / "info")), Model(uri=str(tmp_path / "champion"))
    text = to_parameter(config)
    report = tmp_path / "evaluated"
    report.mkdir()
    shutil.copyfile(inputs["report"], report / "report.json")
    shutil.copyfile(inputs["users"], report / "users.parquet")
    registry = RegistryConfig(tracking_uri=config.tracking_uri)
    component.champion.python_func(to_parameter(registry), "", "", champion)
    assert champion.metadata["version"] == "none"
    assert (Path(champion.path) / "none.txt").is_file()
    version = component.register.python_func(
        text,
        {"served": str(inputs["served"])},
        Model(uri=str(inputs["model"])),
        Artifact(uri=str(report)),
        info,
    )
    assert version == "1"
    assert Path(info.path).is_file()


@pytest.mark.parametrize(
    "values", [{"model_name": ""}, {"model_name": "a/b"}, {"model_name": "a\\b"}, {"experiment": "it's"}]
)
def test_names_that_mlflow_would_stumble_over_are_refused(values) -> None:
    with pytest.raises(ConfigError, match=rf"register\.{next(iter(values))}: must not be empty or hold"):
        from_mapping(RegisterConfig, values, "register")


def test_names_of_metrics_hold_only_what_mlflow_takes() -> None:
    assert evaluation.plain_name("ndcg@10") == "ndcg_at_10"
    assert evaluation.plain_name("modèle/x|y") == "mod_le_x_y"
