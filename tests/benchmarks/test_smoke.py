"""Every benchmark still runs, at sizes of seconds: what it prints there is no measurement."""

import dataclasses
import importlib.util
import random
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_spark import SPARK

FOLDER = Path(__file__).parent


def run(name: str, *options: object) -> str:
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *map(str, options)],
        cwd=FOLDER.parents[1],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
def test_etl():
    printed = run("etl", "2_000", "--memory", "1g", "--engines", "polars,transform")
    assert "2,000 events: transform runs at" in printed


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Run a benchmark in this process, which has already imported what is slow to import."""

    monkeypatch.syspath_prepend(FOLDER)  # as if it were run by its path

    def run_main(name: str, *options: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run_main


@pytest.mark.slow
def test_retrieve(run_here):
    printed = run_here("retrieve", "--smoke")
    assert "| sasrec |" in printed and "DIFFERENT" not in printed


@pytest.mark.slow
def test_beauty_asks_only_where_the_order_matters(run_here):
    """Asking everybody finds the same means; intervals differ by which users a resample holds."""
    tables = [
        [line.partition(" [")[0] for line in run_here("beauty", "--smoke", *everybody).splitlines()]
        for everybody in ([], ["--everybody"])
    ]
    few, all_ = ([line for line in lines if line.startswith("|")] for lines in tables)
    assert few == all_ and len(few) == 21
    asked = [next(line for line in lines if " test prompts scored" in line).split()[0] for lines in tables]
    assert int(asked[0]) < int(asked[1]) == 300


@pytest.mark.slow
def test_grpo():
    engines = "both" if importlib.util.find_spec("trl") else "local"
    assert "| local engine |" in run("grpo", "--smoke", "--steps", 1, "--engines", engines)
    if engines == "local":
        pytest.skip("the local engine runs; TRL is not installed (the extra `bench`)")


@pytest.mark.slow
def test_sft(run_here):
    printed = run_here("sft", "--smoke", "--prompts", 2, "--repeats", 1, "--dtype", "float32")
    assert "| label_logits |" in printed and "| title_likelihood |" in printed
    worst = printed.splitlines()[-1].removeprefix("scores differ by at most ").removesuffix(" nats")
    assert all(float(value) < 1e-3 for value in worst.split(", "))


@pytest.mark.slow
def test_learning(prompts_folder, tiny_model_folder, run_here):
    sizes = ("--train-layers", 0, "--seeds", 1, "--steps", 1, "--prompts", 2)
    printed = run_here("learning", "--table", prompts_folder, "--model", tiny_model_folder, *sizes)
    assert "| mean of 1 |" in printed


@pytest.mark.slow
def test_metrics(run_here):
    printed = run_here("metrics", "--lists", 200, "--users", 100, "--repeats", 1)
    assert "200 lists" in printed and "100 users" in printed


@pytest.mark.slow
def test_retrieve_scale():
    assert "| 600 |" in run("retrieve_scale", "--smoke")


TINY = {
    "sequences": {"as_of": "1970-04-11T00:00:00Z", "valid_days": 20, "test_days": 20, "partitions": 2},
    "retrieve": {
        "folds": 2,
        "blend": {"models": ["item_to_item", "content"]},
        "models": ["popularity", "item_to_item"],
    },
    "base_model": {"random_weights": {"hidden_size": 32}},
    "sft": {"max_examples": 8, "fuse_prompts": 8, "batch_size": 8},
    "grpo": {"steps": 1, "prompts_per_step": 2, "group_size": 4, "eval_every": 1},
    "gate": {"dry_run": True},
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_movielens_by_its_profile(tmp_path):
    """Forty users of both genders, each with a film every other day for 100 days."""
    from pipelines import local, profile
    from pipelines.datasets.importers.movielens import import_movielens

    lines = {
        "users": [f"{u}::{'FM'[u % 2]}::{(18, 25, 35)[u % 3]}::4::48067" for u in range(40)],
        "movies": [f"{m}::Film number {m} (1990)::{('Drama', 'Comedy')[m % 2]}" for m in range(60)],
        "ratings": [
            f"{u}::{film}::5::{n * 2 * 86400 + u}"
            for u in range(40)
            for n, film in enumerate(random.Random(u).sample(range(60), 50))
        ],
    }
    files = [tmp_path / f"{name}.dat" for name in lines]
    for file, text in zip(files, lines.values(), strict=True):
        file.write_text("\n".join(text))
    import_movielens(*files, tmp_path / "ml-1m")
    spark = dataclasses.asdict(SPARK)
    small = {name: {**TINY.get(name, {}), "spark": spark} for name in ("sequences", "prompts")}
    changed = profile.load(str(FOLDER / "movielens.yaml"), {**TINY, **small})
    run = local.run(
        changed, "movielens", str(tmp_path / "ml-1m"), tmp_path / "runs", cache=False, verbose=False
    )
    assert run.report.sample.users == 40 and run.report.comparator("grpo").answers
    assert {"gender female", "gender male"} <= {found.name for found in run.report.slices}


@pytest.mark.parametrize("name", ["beauty", "movielens", "movielens_titles"])
def test_profiles_of_public_data_fit_the_papers_experiments(name):
    from pipelines import profile
    from pipelines.experiments.experiment import EXPERIMENTS

    for experiment in EXPERIMENTS.values():
        for changes in experiment.variants.values():
            profile.load(str(FOLDER / f"{name}.yaml"), changes)
