"""The whole step with real tiny models: figures, pages, repeatability, bad input."""

import dataclasses
import html
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp.dsl import HTML, Artifact, Markdown, Metrics, Model

from components.evaluate import component, gate
from components.evaluate.config import EvaluateConfig, GateConfig
from components.evaluate.job import headline_metrics, run
from components.shared.config import to_parameter
from components.shared.errors import DataError, ModelError
from components.shared.language_model.load import load
from components.shared.language_model.ranker import Ranker
from data_contracts.evaluation import Alarm, EvaluationReport, TrainingAlarms
from data_contracts.metrics import METRICS, USER_METRICS
from data_contracts.tables import EXPOSURES, PROMPTS, QUARANTINE, RANKINGS, SEQUENCES
from tests.components.evaluate.conftest import write_prompts

CONFIG = EvaluateConfig(max_new_tokens=6, bootstrap_samples=200, dtype="float32")


HIGH_KL = Alarm(name="high_kl", model="grpo", value=0.7, bound=0.5, remedy="raise <beta>")


@pytest.fixture(scope="module")
def models(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    none = tmp_path_factory.mktemp("champion")
    (none / "none.txt").write_text("no champion yet\n")
    return {"base": tiny_model_folder, "grpo": tiny_model_folder, "champion": none}


@pytest.fixture(scope="module")
def no_alarms() -> dict[str, Any]:
    return asdict(TrainingAlarms(alarms=()))


def tables(world) -> dict[str, Path]:
    return {name: getattr(world, name) for name in ("prompts", "catalogue", "rankings")}


def outputs(folder: Path) -> dict[str, Path]:
    names = {"report_json": "report.json", "users": "users.parquet", "html": "report.html"}
    return {output: folder / name for output, name in names.items()}


@pytest.fixture(scope="module")
def evaluated(world, models, tmp_path_factory: pytest.TempPathFactory) -> tuple[EvaluationReport, Path]:
    folder = tmp_path_factory.mktemp("evaluated")
    alarms = asdict(TrainingAlarms(alarms=(HIGH_KL,)))
    inputs = {**tables(world), "models": models, "training_alarms": alarms}
    return run(CONFIG, **inputs, lineage={"run_key": "r<1>"}, **outputs(folder)), folder


def test_alarms_of_the_training_are_carried_along(evaluated) -> None:
    report, folder = evaluated
    assert report.alarms[0].name == "high_kl"
    assert "raise &lt;beta&gt;" in (folder / "report.html").read_text()


def test_every_comparator_is_there_and_no_champion(evaluated) -> None:
    report, _ = evaluated
    assert [(comparator.name, comparator.kind) for comparator in report.comparators] == [
        ("popularity", "conventional"),
        ("sasrec", "conventional"),
        ("candidates", "conventional"),
        ("base", "llm"),
        ("grpo_scored", "llm"),
        ("grpo", "llm"),
    ]
    assert all(set(comparator.metrics) == set(METRICS) for comparator in report.comparators)
    for found in report.comparators:
        for by_k, metric in ((found.recall_by_k, "recall"), (found.ndcg_by_k, "ndcg")):
            assert len(by_k) == 10
            assert [by_k[4], by_k[9]] == pytest.approx([found.metrics[f"{metric}@{k}"] for k in (5, 10)])
    assert report.sample.users == report.sample.users_available == 24
    assert report.sample.recall_ceiling == 18 / 24  # one label in four is not retrieved


def test_labels_tied_with_their_histories_are_a_warning(evaluated) -> None:
    report, folder = evaluated
    assert report.sample.tied_share == 6 / 24
    assert [(a.name, a.model, a.bound) for a in report.alarms if a.value == 6 / 24] == [
        ("tied_labels", "all models", 0.1)
    ]
    assert "tied_labels" in (folder / "report.html").read_text()


def test_a_model_that_says_nothing_usable_scores_like_the_candidates(evaluated) -> None:
    report, _ = evaluated
    by_name = {comparator.name: comparator for comparator in report.comparators}
    assert by_name["grpo"].answers.valid_share == 0.0
    assert by_name["grpo"].metrics == by_name["candidates"].metrics
    difference = report.difference("grpo", "candidates", "ndcg@10")
    assert (difference.mean, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_the_scored_ranking_is_whole_and_always_valid(evaluated) -> None:
    report, _ = evaluated
    answers = report.comparator("grpo_scored").answers
    assert (answers.valid_share, answers.tokens_per_user) == (1.0, 0.0)
    # A label among the candidates is somewhere in the ranking, whichever it is.
    assert report.comparator("grpo_scored").metrics["recall@10"] <= report.sample.recall_ceiling
    example = next(given for given in report.examples[0].answers if given.model == "grpo_scored")
    assert example.text.startswith("<think></think><answer>") and example.valid
    assert report.difference("grpo", "grpo_scored", "ndcg@10")


def test_reasoning_pays_by_the_answers_of_the_step(
    evaluated, world, tiny_model_folder, no_alarms, tmp_path: Path
) -> None:
    rows = [row | {"labels": [1], "label_items": row["candidates"][:1]} for row in world.rows[:8]]
    write_prompts(tmp_path / "prompts", rows)  # 6 tokens hold no answer: the candidates' order stays
    given = {**tables(world), "prompts": tmp_path / "prompts", "models": {"grpo": tiny_model_folder}}
    run(CONFIG, **given, training_alarms=no_alarms, lineage={}, **outputs(tmp_path))
    required = GateConfig(beats=(), min_valid_share=0.0, refuse_alarms=False, reasoning_pays="require")
    for folder, pays in ((tmp_path, True), (evaluated[1], False)):
        written = {"html": tmp_path / "decision.html", "summary": tmp_path / "decision.md"}
        decided = gate.run(required, report=folder / "report.json", **written)
        (rule,) = [rule for rule in decided.rules if rule.name == "reasoning pays on NDCG@10"]
        assert decided.passed == rule.passed == pays
        assert rule.figure in (tmp_path / "decision.html").read_text()


@pytest.mark.parametrize("fuse", [1.0, 0.0])
def test_a_scoring_model_ranks_by_its_scores_and_the_retrievers(
    fuse, world, models, tiny_model_folder, no_alarms, tmp_path: Path
) -> None:
    lm = load(tiny_model_folder, "float32")
    Ranker("label_logits", scale=0.0 if fuse else 1.0, fuse=fuse).write(lm.model)
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    given = {**tables(world), "models": {**models, "grpo": tmp_path / "model"}, "training_alarms": no_alarms}
    report = run(CONFIG, **given, lineage={}, **outputs(tmp_path))
    by_name = {comparator.name: comparator for comparator in report.comparators}
    assert list(by_name)[-3:] == ["base", "grpo_alone", "grpo"]
    assert by_name["grpo"].answers.valid_share == 1.0
    if fuse:  # the model weighs nothing: the retriever's scores, which are in the candidates' order, decide
        assert by_name["grpo"].metrics == by_name["candidates"].metrics
        assert by_name["grpo_alone"].metrics != by_name["candidates"].metrics
    else:
        assert by_name["grpo"].metrics == by_name["grpo_alone"].metrics


def test_asking_only_where_the_label_was_retrieved_is_as_accurate(
    evaluated, world, models, no_alarms, tmp_path: Path
) -> None:
    report, _ = evaluated
    given = {**tables(world), "models": models, "training_alarms": no_alarms}
    config = dataclasses.replace(CONFIG, ask_unretrieved=False)
    spared = run(config, **given, lineage={}, **outputs(tmp_path))
    assert 0 < spared.sample.users_asked < report.sample.users == spared.sample.users
    accuracy = ("recall@5", "recall@10", "ndcg@5", "ndcg@10", "graded_ndcg@10", "mrr@10", "map@10")
    for every, some in zip(report.comparators, spared.comparators, strict=True):
        assert every.name == some.name
        assert {m: every.metrics[m] for m in accuracy} == {m: some.metrics[m] for m in accuracy}
    assert f"asked about the {spared.sample.users_asked} users" in (tmp_path / "report.html").read_text()


def test_a_difference_is_the_difference_of_the_means(evaluated) -> None:
    report, _ = evaluated
    for difference in report.differences:
        model, baseline = report.comparator(difference.model), report.comparator(difference.baseline)
        assert difference.mean == pytest.approx(
            model.metrics[difference.metric] - baseline.metrics[difference.metric]
        )
        assert difference.low <= difference.mean <= difference.high


def test_the_table_of_users_holds_what_the_report_averages(evaluated) -> None:
    report, folder = evaluated
    table = pq.read_table(folder / "users.parquet").to_pandas()
    assert len(table) == 24 * len(report.comparators)
    means = table.groupby("model")[list(USER_METRICS)].mean()
    for found in report.comparators:
        for metric in USER_METRICS:
            assert means.loc[found.name, metric] == pytest.approx(found.metrics[metric])


def test_the_report_file_is_the_report(evaluated) -> None:
    report, folder = evaluated
    assert EvaluationReport.read(folder / "report.json") == report
    figures = headline_metrics(report)
    assert figures["grpo_ndcg_at_10"] == report.comparator("grpo").metrics["ndcg@10"]


class Balance(HTMLParser):
    """Collects tags that are never closed, closed unopened, or fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.faults += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"/{tag}")


def test_the_page_is_whole_self_contained_and_escapes_data(evaluated) -> None:
    _, folder = evaluated
    page = (folder / "report.html").read_text()
    balance = Balance()
    balance.feed(page)
    assert (balance.open, balance.faults) == ([], [])
    assert "<script" not in page
    for title in ("Accuracy against diversity", "Recall@K", "NDCG@K", "grpo - sasrec on each part"):
        assert f"<figcaption>{title}</figcaption><svg" in page
    assert html.escape("Title <i") in page  # titles of this world hold angle brackets
    assert "Title <i" not in page
    assert html.escape("r<1>") in page


def test_equal_inputs_give_equal_figures(evaluated, world, models, tmp_path) -> None:
    inputs = {**tables(world), "models": models, "training_alarms": asdict(TrainingAlarms(alarms=(HIGH_KL,)))}
    config = dataclasses.replace(CONFIG, batch_size=5)
    again = run(config, **inputs, lineage={"run_key": "r<1>"}, **outputs(tmp_path))

    def timeless(report: EvaluationReport) -> EvaluationReport:
        stopped = tuple(
            dataclasses.replace(
                comparator,
                answers=comparator.answers and dataclasses.replace(comparator.answers, seconds_per_user=0),
            )
            for comparator in report.comparators
        )
        return dataclasses.replace(report, comparators=stopped, examples=())

    assert timeless(again) == timeless(evaluated[0])


def test_a_champion_is_compared_before_the_new_models(world, tiny_model_folder, no_alarms, tmp_path) -> None:
    models = {"grpo": tiny_model_folder, "champion": tiny_model_folder}
    inputs = {**tables(world), "models": models, "training_alarms": no_alarms}
    config = dataclasses.replace(CONFIG, max_users=6)
    report = run(config, **inputs, lineage={}, **outputs(tmp_path))
    assert [comparator.name for comparator in report.comparators][-3:] == [
        "champion",
        "grpo_scored",
        "grpo",
    ]
    assert report.difference("grpo", "champion", "ndcg@10") is not None
    assert report.sample.users == 6


def corrupt(world, folder: Path, case: str) -> dict[str, Path]:
    prompts, catalogue, rankings = world.prompts, world.catalogue, world.rankings
    ranked = pq.read_table(rankings / "part-0.parquet").to_pylist()
    if case == "no prompts":
        prompts = folder
    elif case == "empty prompts":
        pq.write_table(PROMPTS.empty_table(), folder / "test.parquet")
        prompts = folder
    elif case == "no label":
        rows = [dict(row, label_items=[], label_weights=[], labels=[]) for row in world.rows]
        pq.write_table(pa.Table.from_pylist(rows, schema=PROMPTS), folder / "test.parquet")
        prompts = folder
    elif case == "no catalogue":
        catalogue = folder / "nowhere"
    elif case == "catalogue without tags":
        pq.write_table(pa.table({"item_id": ["i1"]}), folder / "part.parquet")
        catalogue = folder
    elif case == "a user is missing":
        pq.write_table(pa.Table.from_pylist(ranked[2:], schema=RANKINGS), folder / "part.parquet")
        rankings = folder
    elif case == "reserved name":
        rows = [dict(row, model="grpo") if row["model"] == "popularity" else row for row in ranked]
        pq.write_table(pa.Table.from_pylist(rows, schema=RANKINGS), folder / "part.parquet")
        rankings = folder
    elif case == "corrupt file":
        (folder / "part.parquet").write_bytes(b"PAR1 nothing")
        rankings = folder
    return {"prompts": prompts, "catalogue": catalogue, "rankings": rankings}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no prompts", "test.parquet: no such file"),
        ("empty prompts", "test.parquet: no rows"),
        ("no label", r"user u00 at position 4 has no label_items"),
        ("no catalogue", "nowhere: no such table"),
        ("catalogue without tags", "not a table with columns item_id, title, tags"),
        ("a user is missing", "has no test row for user u00 at position 4"),
        ("reserved name", "a model is called 'grpo'"),
        ("corrupt file", "not a table with columns"),
    ],
)
def test_bad_tables_are_named_and_nothing_is_written(world, no_alarms, tmp_path, case, message) -> None:
    (tmp_path / "bad").mkdir()
    inputs = {**corrupt(world, tmp_path / "bad", case), "models": {"grpo": tmp_path / "bad"}}
    with pytest.raises(DataError, match=message):
        run(CONFIG, **inputs, training_alarms=no_alarms, lineage={}, **outputs(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_named(world, no_alarms, tmp_path) -> None:
    inputs = {**tables(world), "models": {"sft": tmp_path / "sft"}, "training_alarms": no_alarms}
    with pytest.raises(ModelError, match=r"sft: no config\.json"):
        run(CONFIG, **inputs, lineage={}, **outputs(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_components_write_every_output(world, models, tmp_path) -> None:
    report, metrics = Artifact(uri=str(tmp_path / "report")), Metrics(uri=str(tmp_path / "metrics"))
    page = HTML(uri=str(tmp_path / "page"))
    folders = tables(world)
    for name, schema in {"sequences": SEQUENCES, "exposures": EXPOSURES, "quarantine": QUARANTINE}.items():
        folders[name] = tmp_path / name
        folders[name].mkdir()
        pq.write_table(schema.empty_table(), folders[name] / "part.parquet")
    component.evaluate.python_func(
        config=to_parameter(dataclasses.replace(CONFIG, max_users=4)),
        fingerprint="x",
        lineage={"run_key": "k"},
        tables={name: str(folder) for name, folder in folders.items()},
        base_model=Model(uri=str(models["base"])),
        sft_model=Model(uri=str(models["grpo"])),
        grpo_model=Model(uri=str(models["grpo"])),
        champion=Model(uri=str(models["champion"])),
        grpo_alarms=asdict(TrainingAlarms(alarms=())),
        report=report,
        page=page,
        metrics=metrics,
    )
    for path in (Path(report.path) / "report.json", Path(report.path) / "users.parquet", Path(page.path)):
        assert path.stat().st_size > 0
    assert metrics.metadata["users"] == 4
    decision = (HTML(uri=str(tmp_path / "decision")), Markdown(uri=str(tmp_path / "summary")))
    easy = GateConfig(beats=(), min_valid_share=0.0, refuse_alarms=False)
    assert component.gate.python_func(to_parameter(easy), "x", report, *decision) is True
    assert component.gate.python_func(to_parameter(GateConfig()), "x", report, *decision) is False
    assert all("is not registered" in Path(written.path).read_text() for written in decision)
