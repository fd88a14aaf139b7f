"""Experiments: every variant fits every profile, and the verdict says no more than the intervals do."""

import dataclasses
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from components.shared.errors import ConfigError
from data_contracts.evaluation import CANDIDATE_ORDER
from pipelines import profile
from pipelines.experiments import experiment as experiments
from pipelines.experiments import report as experiment_report
from pipelines.experiments import seeds
from pipelines.local import RunFailedError


@pytest.mark.parametrize("name", profile.names())
@pytest.mark.parametrize("experiment", experiments.EXPERIMENTS)
def test_every_variant_changes_a_profile_as_it_says(experiment: str, name: str) -> None:
    variants = experiments.EXPERIMENTS[experiment].variants
    loaded = [profile.load(name, changes) for changes in variants.values()]
    assert all(one != loaded[0] for one in loaded[1:])


@pytest.mark.parametrize(
    "experiment", ["reasoning", "reasoning-perturbed", "accuracy-reward", "prompt-variants"]
)
def test_a_question_about_what_the_model_does_not_read_or_write_is_refused(experiment, tmp_path) -> None:
    with pytest.raises(
        ConfigError, match=r"sft\.answers: title_likelihood of profile laptop; take .*generate"
    ):
        experiments.run(experiment, "laptop", None, tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())


def test_variants_of_the_generated_log_are_refused_on_own_data(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'shuffled-titles': its variants are generated logs"):
        experiments.run("shuffled-titles", "laptop", str(data), tmp_path / "runs", verbose=False)
    assert not (tmp_path / "runs").exists()


def test_changes_reach_as_deep_as_they_are_written() -> None:
    plain = profile.load("h800")
    changed = profile.load("h800", {"grpo": {"reward": {"business": {"ilad": 0.3}}}})
    assert changed.grpo.reward.business == {"ilad": 0.3}
    assert changed.grpo.verl == plain.grpo.verl
    assert changed.sft == plain.sft


def test_a_report_that_could_not_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "experiments").write_text("")
    with pytest.raises(ConfigError, match="the report cannot be written there"):
        experiments.run("sft-only", "tiny", None, tmp_path, verbose=False)
    assert [path.name for path in tmp_path.iterdir()] == ["experiments"]


@pytest.mark.parametrize("experiment", ["accuracy-reward", "reward-weights"])
def test_business_terms_of_the_profile_do_not_leak_into_variants(experiment: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("grpo: {reward: {business: {novelty: 0.3}}}")
    variants = experiments.EXPERIMENTS[experiment].variants
    rewards = {name: profile.load(str(file), changes).grpo.reward for name, changes in variants.items()}
    assert len(set(map(repr, rewards.values()))) == len(rewards)
    if experiment == "accuracy-reward":
        assert rewards["accuracy alone"].business == {}
    else:
        assert not any(rewards["no business term"].business.values())


def test_a_report_holds_what_is_finished_when_a_variant_fails(
    make_report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = SimpleNamespace(
        report=make_report(), page=tmp_path / "run" / "report.html", evaluation=tmp_path / "run"
    )
    runs = iter([finished, RunFailedError("step 'grpo' failed: the loss is <NaN>")])

    def run(*arguments: Any, **options: Any) -> Any:
        outcome = next(runs)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(experiments.local, "run", run)
    with pytest.raises(RunFailedError):
        experiments.run("cold-start", "tiny", None, tmp_path, verbose=False)
    (folder,) = (tmp_path / "experiments").iterdir()
    report = json.loads((folder / "report.json").read_text())
    assert list(report["variants"]) == ["the profile's examples"]
    assert report["missing"] == {
        "8 examples": "failed: step 'grpo' failed: the loss is <NaN>",
        "none": "not run yet",
    }
    page = (folder / "report.html").read_text()
    assert html.escape("the loss is <NaN>") in page
    assert "none: not run yet" in page
    assert '<a href="../../run/report.html">' in page


def row(low: float, mean: float, high: float) -> dict:
    return {"ndcg@10": mean, "ndcg@10_interval": [low, high], "recall@10": 0.5, "ilad": 0.5, "novelty": 9.0}


@pytest.mark.parametrize(
    ("others", "said"),
    [
        pytest.param({"b": row(0.1, 0.15, 0.2)}, "its interval lies above all others", id="apart"),
        pytest.param(
            {"b": row(0.2, 0.3, 0.4), "c": row(0, 0.1, 0.2)}, "overlaps with that of b:", id="close"
        ),
    ],
)
def test_verdict(others: dict, said: str) -> None:
    assert said in experiment_report.verdict({**others, "best": row(0.3, 0.4, 0.5)})


def test_equal_figures_decide_nothing() -> None:
    same = row(0.3, 0.4, 0.5)
    assert "there is no difference" in experiment_report.verdict({"a": same, "b": same})


@pytest.fixture
def stand_in_for_runs(
    make_report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Sequence[pd.DataFrame]], None]:
    """Let each next run of the pipeline have evaluated one of the given tables of users, in any order."""

    def stand_in(tables: Sequence[pd.DataFrame]) -> None:
        finished = []
        for number, table in enumerate(tables):
            folder = tmp_path / f"evaluation-{number}"
            folder.mkdir()
            table.sample(frac=1, random_state=number).to_parquet(folder / "users.parquet")
            finished.append(
                SimpleNamespace(
                    report=make_report(), page=tmp_path / "run" / "report.html", evaluation=folder
                )
            )
        runs = iter(finished)
        monkeypatch.setattr(experiments.local, "run", lambda *_, **__: next(runs))

    return stand_in


def test_seeds_are_judged_together(stand_in_for_runs, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(400)], "position": 5})
    tables = []
    for gain in (0.08, 0.10, 0.12):
        rows = [
            users.assign(
                model=model, **{metric: generator.normal(mean, 0.05, 400) for metric in seeds.METRICS}
            )
            for model, mean in (("sasrec", 0.1), ("sft", 0.1 + gain), ("grpo", 0.1 + gain))
        ]
        tables.append(pd.concat(rows))
    stand_in_for_runs(tables)
    folder = experiments.run("seeds", "tiny", None, tmp_path, verbose=False, seeds=3)
    report = json.loads((folder / "report.json").read_text())
    assert list(report["variants"]) == ["seed 0", "seed 1", "seed 2"]
    by_name = {row["quantity"]: row for row in report["seeds"]["rows"]}
    gained, plain = by_name["NDCG@10 minus sasrec"], by_name["NDCG@10 minus sft"]
    assert gained["mean"] == pytest.approx(0.10, abs=0.01)
    # Three seeds that differ by 0.02: their standard error is about 0.01, the users' alone a third of it.
    assert 0.02 < gained["high"] - gained["low"] < 0.05
    assert plain["low"] < 0 < plain["high"]
    assert "better; 3 of 3 seeds gain" in report["verdict"]
    assert "All seeds together" in (folder / "report.html").read_text()


def test_grpo_is_compared_with_sft_continued_user_by_user(stand_in_for_runs, tmp_path: Path) -> None:
    """GRPO gains .1 on the SFT model, which gains .1 on the order; the control gains .1 on it as well."""
    generator = np.random.default_rng(0)
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(400)], "position": 5})
    luck = generator.normal(0.0, 0.3, 400)
    tables = []
    for trained in (0.2, 0.2, 0.22, 0.22):
        rows = [
            users.assign(
                model=model, **dict.fromkeys(seeds.METRICS, mean + luck + generator.normal(0, 0.02, 400))
            )
            for model, mean in ((CANDIDATE_ORDER, 0.0), ("sft", 0.1), ("grpo", trained))
        ]
        tables.append(pd.concat(rows))
    stand_in_for_runs(tables)
    folder = experiments.run("control", "tiny", None, tmp_path, verbose=False, seeds=2)
    report = json.loads((folder / "report.json").read_text())
    assert list(report["variants"])[:2] == ["GRPO, seed 0", "SFT continued, seed 0"]
    by_name = {row["quantity"]: row for row in report["seeds"]["rows"]}
    control, gain, sft = (
        by_name[f"NDCG@10{pair}"]
        for pair in (" minus SFT continued", " minus sft", f" of sft minus {CANDIDATE_ORDER}")
    )
    assert control["low"] < 0 < control["high"] < 0.01  # the luck of users is the same in both
    assert gain["mean"] == pytest.approx(0.11, abs=0.01) and gain["low"] > 0
    assert sft["mean"] == pytest.approx(0.1, abs=0.01) and sft["low"] > 0
    assert "Against SFT continued, NDCG@10 changes by" in report["verdict"]
    assert "undecided" in report["verdict"]


def test_variants_are_compared_with_the_first_user_by_user(stand_in_for_runs, tmp_path: Path) -> None:
    """The second is .05 better for everybody, which users' luck hides; the third asked others."""
    luck = np.random.default_rng(0).normal(0.3, 0.3, 400)
    users = pd.DataFrame({"user_id": [f"u{n}" for n in range(400)], "position": 5, "model": "grpo"})
    tables = [users.assign(**dict.fromkeys(seeds.METRICS, luck + gain)) for gain in (0.0, 0.05)]
    stand_in_for_runs([*tables, tables[0].assign(user_id=[f"v{n}" for n in range(400)])])
    folder = experiments.run("cold-start", "tiny", None, tmp_path, verbose=False)
    rows = json.loads((folder / "report.json").read_text())["variants"].values()
    assert [row["over_first"] for row in rows] == ["", "+0.0500 [+0.0500, +0.0500]", ""]
    assert "over the first variant" in (folder / "report.html").read_text()


def test_the_control_differs_in_the_objective_alone() -> None:
    variants = list(experiments.EXPERIMENTS["control"].variants.values())
    for grpo, control in zip(variants[::2], variants[1::2], strict=True):
        ours, theirs = profile.load("laptop", grpo), profile.load("laptop", control)
        assert theirs.grpo.objective == "sft"
        assert dataclasses.replace(ours, grpo=dataclasses.replace(ours.grpo, objective="sft")) == theirs
