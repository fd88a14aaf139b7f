"""The DAG: which step's output is which step's input, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl import HTML, Model

from components.base_model.component import base_model
from components.etl.component import prompts, sequences
from components.evaluate.component import evaluate, gate
from components.grpo.component import grpo
from components.register.component import champion, register
from components.retrieve.component import retrieve
from components.sft.component import sft
from components.shared.artifacts.fingerprint import of_step
from components.shared.config import to_json
from pipelines.profile import Profile


class Outputs(NamedTuple):
    """The pages of the steps, and the base model, which has none."""

    sequences: HTML
    retrieve: HTML
    base_model: Model
    prompts: HTML
    sft: HTML
    grpo: HTML
    evaluate: HTML


def build(profile: Profile) -> Callable[..., Any]:
    """Return the pipeline function of `profile`; its parameters are what changes from run to run.

    `data` is the folder or URI of the raw tables, `lineage` a JSON object of texts that the registered model
    carries, with a `run_key`, and `checkpoints` a folder that outlives a killed step ("" = none). The
    fingerprints key the cache: contents by parameters, each step's code and libraries by constants.
    """

    @dsl.pipeline(name="recllm-r1", description="Behaviour logs in, a better LLM recommender out.")
    def recllm_r1(
        data: str,
        data_fingerprint: str,
        base_model_fingerprint: str = "",
        encoder_fingerprint: str = "",
        reward_fingerprint: str = "",
        lineage: str = "{}",
        checkpoints: str = "",
    ) -> Outputs:
        sequenced = sequences(
            config=to_json(profile.sequences),
            data=data,
            fingerprint=f"{data_fingerprint}-{of_step('etl/sequences')}",
        )
        tables = {name: sequenced.outputs[name] for name in ("sequences", "catalogue", "users")}
        retrieved = retrieve(
            config=to_json(profile.retrieve),
            fingerprint=f"{encoder_fingerprint}-{of_step('retrieve')}",
            checkpoints=checkpoints,
            **tables,
            exposures=sequenced.outputs["exposures"],
        )
        base = base_model(
            config=to_json(profile.base_model),
            fingerprint=f"{base_model_fingerprint}-{of_step('base_model')}",
        )
        prompted = prompts(
            config=to_json(profile.prompts),
            fingerprint=of_step("etl/prompts"),
            **tables,
            candidates=retrieved.outputs["candidates"],
            base_model=base.outputs["model"],
        )
        tuned = sft(
            config=to_json(profile.sft),
            fingerprint=of_step("sft"),
            checkpoints=checkpoints,
            prompts=prompted.outputs["prompts"],
            base_model=base.outputs["model"],
        )
        improved = grpo(
            config=to_json(profile.grpo),
            fingerprint=f"{reward_fingerprint}-{of_step('grpo')}",
            checkpoints=checkpoints,
            prompts=prompted.outputs["prompts"],
            sft_model=tuned.outputs["model"],
        )
        current_champion = champion(config=to_json(profile.register))
        evaluated = evaluate(
            config=to_json(profile.evaluate),
            fingerprint=of_step("evaluate"),
            lineage=lineage,
            prompts=prompted.outputs["prompts"],
            catalogue=sequenced.outputs["catalogue"],
            rankings=retrieved.outputs["rankings"],
            base_model=base.outputs["model"],
            sft_model=tuned.outputs["model"],
            grpo_model=improved.outputs["model"],
            champion=current_champion.outputs["champion"],
            grpo_alarms=improved.outputs["alarms"],
        )
        passed = gate(
            config=to_json(profile.gate),
            fingerprint=of_step("evaluate"),
            report=evaluated.outputs["report"],
        )
        with dsl.If(passed.outputs["Output"] == True, name="gate-passed"):  # noqa: E712
            registered = register(
                config=to_json(profile.registration),
                lineage=lineage,
                model=improved.outputs["model"],
                report=evaluated.outputs["report"],
            )

        _place(profile.images.spark, sequenced, prompted)
        _place(profile.images.trainer, retrieved, base, tuned, improved, evaluated)
        _place(profile.images.ops, current_champion, passed, registered)
        for task in (current_champion, registered):
            task.set_caching_options(enable_caching=False)
        # A local run sets its database in the environment, outside all cache keys; pods cannot reach it.
        if profile.register.tracking_uri.startswith("http"):
            for task in (tuned, improved):
                task.set_env_variable("MLFLOW_TRACKING_URI", profile.register.tracking_uri)
                task.set_env_variable("MLFLOW_EXPERIMENT_NAME", profile.register.experiment)
        return Outputs(
            sequences=sequenced.outputs["data_docs"],
            retrieve=retrieved.outputs["report"],
            base_model=base.outputs["model"],
            prompts=prompted.outputs["data_docs"],
            sft=tuned.outputs["curves"],
            grpo=improved.outputs["curves"],
            evaluate=evaluated.outputs["html"],
        )

    return recllm_r1


def _place(image: str, *tasks: dsl.PipelineTask) -> None:
    for task in tasks:
        task.set_container_image(image)


def compile_to(profile: Profile, path: Path) -> None:
    """Write the pipeline of `profile` as KFP's YAML to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build(profile), str(path))
