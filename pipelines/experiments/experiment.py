"""The paper's experiments: each answers one question by runs of the same DAG that differ in one thing."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import typer

from components.shared.config import Answers
from components.shared.errors import ConfigError
from data_contracts.evaluation import TRAINED_MODEL
from pipelines import local, profile
from pipelines.experiments import report as experiment_report

Changes = Mapping[str, Any]
"""What a variant changes in the profile, nested like its file."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question and the changes of the profile that answer it, by the variants' titles."""

    question: str
    variants: Mapping[str, Changes]
    answers: tuple[Answers, ...] = get_args(Answers)
    """Values of `sft.answers` with which the variants can differ."""


_NO_GRPO: Changes = {"grpo": {"engine": "local", "steps": 0}}
_SHAPING = ("format", "reasoning", "repeats", "outside", "seen", "length")
_ACCURACY_ALONE: Changes = {**dict.fromkeys(_SHAPING, 0.0), "business": {}}


def _business(**weights: float) -> Changes:
    """Return these weights for built-in business terms, else 0; the user's own terms stay."""
    return {"grpo": {"reward": {"business": {"ilad": 0.0, "novelty": 0.0, "fresh": 0.0, **weights}}}}


def _seeds(number: int) -> Experiment:
    seeds = {f"seed {seed}": {"sft": {"seed": seed}, "grpo": {"seed": seed}} for seed in range(number)}
    return Experiment(question="How much of the result is the luck of the training's seed?", variants=seeds)


def _control(number: int) -> Experiment:
    variants: dict[str, Changes] = {}
    for seed in range(number):
        sft, grpo = {"seed": seed}, {"seed": seed, "engine": "local"}
        variants[f"GRPO, seed {seed}"] = {"sft": sft, "grpo": grpo}
        variants[f"SFT continued, seed {seed}"] = {"sft": sft, "grpo": {**grpo, "objective": "sft"}}
    return Experiment(
        question="Does GRPO add more than SFT that goes on with the same prompts for as many steps?",
        variants=variants,
    )


SEEDED = {"seeds": _seeds, "control": _control}
"""Experiments whose variants are trainings with several seeds, which are judged together."""
EXPERIMENTS: Mapping[str, Experiment] = {
    **{name: of_seeds(5) for name, of_seeds in SEEDED.items()},
    "sft-only": Experiment(
        question="What does GRPO add to supervised fine-tuning?",
        variants={"SFT and GRPO": {}, "SFT only": _NO_GRPO},
    ),
    "accuracy-reward": Experiment(
        question="What do the terms of the reward beside accuracy do?",
        variants={"the profile's reward": {}, "accuracy alone": {"grpo": {"reward": _ACCURACY_ALONE}}},
        answers=("generate",),
    ),
    "reasoning": Experiment(
        question="Does reasoning before the answer make the ranking better?",
        variants={
            "with reasoning": {"prompts": {"rationale": True}},
            "without reasoning": {"prompts": {"rationale": False}, "grpo": {"reward": {"reasoning": 0.0}}},
        },
        answers=("generate",),
    ),
    "prompt-variants": Experiment(
        question="Which parts of the prompt does the model use?",
        variants={
            "as in the profile": {},
            "no profile": {"prompts": {"with_profile": False}},
            "no long-term interests": {"prompts": {"with_interests": False}},
            "ids instead of words": {"prompts": {"natural_language": False}},
            "three items of history": {"prompts": {"max_history": 3}},
        },
        answers=("generate", "label_logits"),
    ),
    "shuffled-titles": Experiment(
        question="Does the gain over the candidates' order come from what the titles say?",
        variants={
            "as generated": {},
            "titles shuffled between items": {"sample": {"shuffle_titles": True}},
        },
    ),
    "reward-weights": Experiment(
        question="What do business terms buy, and what do they cost?",
        variants={
            "no business term": _business(),
            "diversity 0.3": _business(ilad=0.3),
            "novelty 0.3": _business(novelty=0.3),
            "fresh items 0.3": _business(fresh=0.3),
        },
    ),
    "cold-start": Experiment(
        question="How much supervised fine-tuning does GRPO need to begin with?",
        variants={
            "the profile's examples": {},
            "8 examples": {"sft": {"max_examples": 8}},
            "none": {"sft": {"epochs": 0}},
        },
    ),
    "reasoning-perturbed": Experiment(
        question="Does the answer follow the reasoning, or would any reasoning do?",
        variants={
            "SFT and GRPO": {"evaluate": {"reasoning_probes": 100}},
            "SFT only": {"evaluate": {"reasoning_probes": 100}, **_NO_GRPO},
        },
        answers=("generate",),
    ),
}


def run(name: str, profile_name: str, data: str | None, runs: Path, *, verbose: bool, seeds: int = 5) -> Path:
    """Run every variant of experiment `name`; return the folder of its report.

    `seeds` is the number of trainings of an experiment of several seeds.

    Nothing is registered. Steps that variants share run once, and a second try resumes. The report is
    written after each variant, so that it holds what is finished when one fails.

    Raises:
        ConfigError: no such experiment, or a variant does not fit the profile. RunFailedError: a step failed.
    """
    if name not in EXPERIMENTS:
        raise ConfigError(f"experiment '{name}': there is {', '.join(EXPERIMENTS)}")
    experiment = SEEDED[name](seeds) if name in SEEDED else EXPERIMENTS[name]
    profiles = {
        title: profile.load(profile_name, {**changes, "gate": {"dry_run": True}})
        for title, changes in experiment.variants.items()
    }
    for changed in profiles.values():
        if changed.sft.answers not in experiment.answers:
            raise ConfigError(
                f"experiment '{name}': its variants are alike with sft.answers: {changed.sft.answers} of "
                f"profile {profile_name}; take a profile with {' or '.join(experiment.answers)}"
            )
    if data and any("sample" in changes for changes in experiment.variants.values()):
        raise ConfigError(f"experiment '{name}': its variants are generated logs; run it without --data")
    folder = runs.resolve() / "experiments" / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    document: dict[str, Any] = {
        "experiment": name,
        "question": experiment.question,
        "model": TRAINED_MODEL,
        "variants": {},
        "made_from": {},
        "missing": dict.fromkeys(profiles, experiment_report.NOT_RUN),
    }
    try:
        experiment_report.write(folder, document)
    except OSError as error:
        raise ConfigError(f"{folder}: the report cannot be written there ({error})") from error
    evaluations: list[Path] = []
    for title, changed in profiles.items():
        typer.echo(f"\nexperiment {name}: {title}")
        try:
            finished = local.run(
                changed, profile_name, data, runs, cache=True, verbose=verbose, run_name=f"{name} {title}"
            )
            evaluations.append(finished.evaluation)
            document["variants"][title] = {
                **experiment_report.row_of(finished.report),
                "over_first": experiment_report.over_first(evaluations),
            }
            document["made_from"][title] = {
                "changes": experiment.variants[title],
                "page": os.path.relpath(finished.page, folder),
                "sample": str(finished.report.sample),
                "lineage": finished.report.lineage,
            }
            del document["missing"][title]
            if name == "seeds" and len(evaluations) > 1:
                document["seeds"] = experiment_report.seeds_of(finished.report, evaluations)
            if name == "control" and len(evaluations) % 2 == 0:
                document["seeds"] = experiment_report.control_of(evaluations[::2], evaluations[1::2])
        except Exception as error:
            document["missing"][title] = f"failed: {error}"
            typer.echo(f"what is finished: {folder / 'report.html'}", err=True)
            raise
        finally:
            experiment_report.write(folder, document)
    return folder
