"""The DAG: which step's output is which step's input, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler, dsl

from components.base_model.component import base_model
from components.etl.component import prompts, sequences
from components.evaluate.component import evaluate, gate
from components.grpo.component import grpo
from components.register.component import champion, register
from components.retrieve.component import retrieve
from components.run_end.component import run_end
from components.sft.component import sft
from components.shared.config import to_json
from pipelines.profile import Profile

NAME = "recllm-r1"
CACHED_STEPS = ("sequences", "retrieve", "base-model", "prompts", "sft", "grpo")
"""Steps whose outputs are used again while data, configuration and code are unchanged."""


def build(profile: Profile) -> Callable[..., Any]:
    """Return the pipeline function of `profile`; its parameters are what changes from run to run.

    `data` is the folder or URI of the raw tables; the fingerprints key the cache; `lineage` is a
    JSON object of texts that the registered model carries, with a `run_key`; `checkpoints` is a folder
    that outlives a killed step ("" = none).
    """
    images = profile.images

    @dsl.pipeline(name=NAME, description="Behaviour logs in, a better LLM recommender out.")
    def recllm_r1(
        data: str,
        data_fingerprint: str,
        code_fingerprint: str,
        base_model_fingerprint: str = "",
        encoder_fingerprint: str = "",
        reward_fingerprint: str = "",
        lineage: str = "{}",
        checkpoints: str = "",
    ):
        end = run_end(lineage=lineage).set_container_image(images.ops)
        with dsl.ExitHandler(end):
            sequenced = sequences(
                config=to_json(profile.sequences),
                data=data,
                fingerprint=f"{data_fingerprint}-{code_fingerprint}",
            ).set_container_image(images.spark)
            retrieved = retrieve(
                config=to_json(profile.retrieve),
                fingerprint=encoder_fingerprint,
                checkpoints=checkpoints,
                sequences=sequenced.outputs["sequences"],
                catalogue=sequenced.outputs["catalogue"],
                users=sequenced.outputs["users"],
                exposures=sequenced.outputs["exposures"],
            ).set_container_image(images.trainer)
            base = base_model(
                config=to_json(profile.base_model),
                fingerprint=f"{base_model_fingerprint}-{code_fingerprint}",
            ).set_container_image(images.trainer)
            prompted = prompts(
                config=to_json(profile.prompts),
                sequences=sequenced.outputs["sequences"],
                catalogue=sequenced.outputs["catalogue"],
                users=sequenced.outputs["users"],
                candidates=retrieved.outputs["candidates"],
                base_model=base.outputs["model"],
            ).set_container_image(images.spark)
            tuned = sft(
                config=to_json(profile.sft),
                checkpoints=checkpoints,
                prompts=prompted.outputs["prompts"],
                base_model=base.outputs["model"],
            ).set_container_image(images.trainer)
            improved = grpo(
                config=to_json(profile.grpo),
                fingerprint=reward_fingerprint,
                checkpoints=checkpoints,
                prompts=prompted.outputs["prompts"],
                sft_model=tuned.outputs["model"],
            ).set_container_image(images.trainer)
            # Where the trainings log as they go. A database on this machine is no place for pods: a local run
            # names it in the environment, where it is in no cache key.
            if (uri := profile.register.tracking_uri).startswith("http"):
                for task in (tuned, improved):
                    task.set_env_variable("MLFLOW_TRACKING_URI", uri)
                    task.set_env_variable("MLFLOW_EXPERIMENT_NAME", profile.register.experiment)
            reigning = champion(config=to_json(profile.register)).set_container_image(images.ops)
            reigning.set_caching_options(enable_caching=False)
            evaluated = evaluate(
                config=to_json(profile.evaluate),
                lineage=lineage,
                prompts=prompted.outputs["prompts"],
                catalogue=sequenced.outputs["catalogue"],
                rankings=retrieved.outputs["rankings"],
                base_model=base.outputs["model"],
                sft_model=tuned.outputs["model"],
                grpo_model=improved.outputs["model"],
                champion=reigning.outputs["champion"],
                grpo_alarms=improved.outputs["alarms"],
            ).set_container_image(images.trainer)
            passed = gate(
                config=to_json(profile.gate), report=evaluated.outputs["report"]
            ).set_container_image(images.ops)
            with dsl.If(passed.outputs["Output"] == True, name="gate-passed"):  # noqa: E712
                registered = register(
                    config=to_json(profile.register),
                    lineage=lineage,
                    model=improved.outputs["model"],
                    report=evaluated.outputs["report"],
                ).set_container_image(images.ops)
                registered.set_caching_options(enable_caching=False)

    return recllm_r1


def compile_to(profile: Profile, path: Path) -> None:
    """Write the pipeline of `profile` as KFP's YAML to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build(profile), str(path))
