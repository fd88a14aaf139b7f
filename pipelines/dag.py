"""The DAG: which step's output is which step's input, and nothing else."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl import HTML, Artifact

from components.base_model.component import base_model
from components.etl.component import prompts, sequences
from components.evaluate.component import evaluate, gate
from components.grpo.component import grpo
from components.notify.component import notify
from components.register.component import champion, register
from components.retrieve.component import retrieve
from components.sft.component import sft
from components.shared.artifacts.fingerprint import of_step
from components.shared.config import to_parameter
from components.shared.tracking import PIPELINE_RUN
from components.window.component import window
from pipelines import lineage
from pipelines.placement import Placement
from pipelines.profile import Profile

NEVER_CACHED = ("window", "register")
"""What reads the clock or the registry."""


class Outputs(NamedTuple):
    """The page of each step, and the evaluation report."""

    window: HTML
    sequences: HTML
    retrieve: HTML
    prompts: HTML
    sft: HTML
    grpo: HTML
    evaluate: HTML
    gate: HTML
    report: Artifact


def build(
    profile: Profile,
    name: str,
    *,
    cached: bool = True,
    scheduled: str = dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
    run_id: str = dsl.PIPELINE_JOB_ID_PLACEHOLDER,
) -> Callable[..., Any]:
    """Return the pipeline function of the profile called `name`; `data` locates the raw tables.

    Everything else that changes from run to run is found by its first task, `window`. The fingerprints key
    the cache: contents by parameters, each step's code and libraries by constants.
    """
    placement = profile.placement or Placement()
    pipeline = dsl.pipeline(
        name="recllm-r1",
        description="Behaviour logs in, a better LLM recommender out.",
        pipeline_root=placement.root or None,
    )

    def recllm_r1(data: str) -> Outputs:
        return _steps(profile, name, data, cached, scheduled, run_id)

    def notifying(data: str):
        handler = notify(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        placement.apply_notify(handler, lineage.git_commit())
        with dsl.ExitHandler(handler, name="run"):  # it allows no outputs of the pipeline
            _steps(profile, name, data, cached, scheduled, run_id)

    built = pipeline(notifying if placement.notify else recllm_r1)
    spec = built.pipeline_spec
    for component in (spec.root, *spec.components.values()):
        _drop_implied(component.dag.tasks)
    return built


def _steps(profile: Profile, name: str, data: str, cached: bool, scheduled: str, run_id: str) -> Outputs:
    own_rewards = lineage.of_reward(profile.grpo.reward)
    found = window(
        config=to_parameter(lineage.window_config(profile, name, fresh=not cached)),
        data=data,
        scheduled=scheduled,
        run_id=run_id,
    )
    sequenced = sequences(
        config=to_parameter(profile.sequences),
        data=data,
        as_of=found.outputs["as_of"],
        fingerprint=f"{found.outputs['data_fingerprint']}-{of_step('etl/sequences')}",
    )
    retrieved = retrieve(
        config=to_parameter(profile.retrieve),
        fingerprint=f"{found.outputs['encoder_fingerprint']}-{of_step('retrieve')}",
        checkpoints=profile.checkpoints,
        labels=to_parameter(profile.prompts.labels),
        tables=sequenced.outputs["tables_so_far"],
    )
    base = base_model(
        config=to_parameter(profile.base_model),
        fingerprint=f"{found.outputs['base_model_fingerprint']}-{of_step('base_model')}",
    )
    prompted = prompts(
        config=to_parameter(profile.prompts),
        fingerprint=of_step("etl/prompts"),
        tables=retrieved.outputs["tables_so_far"],
        base_model=base.outputs["model"],
    )
    tuned = sft(
        config=to_parameter(profile.sft),
        fingerprint=of_step("sft"),
        checkpoints=profile.checkpoints,
        tables=prompted.outputs["tables_so_far"],
        prompt=to_parameter(profile.shown),
        base_model=base.outputs["model"],
    )
    improved = grpo(
        config=to_parameter(profile.grpo),
        fingerprint=f"{own_rewards}-{of_step('grpo')}",
        checkpoints=profile.checkpoints,
        tables=prompted.outputs["tables_so_far"],
        sft_model=tuned.outputs["model"],
    )
    current_champion = champion(
        config=to_parameter(profile.register),
        version=found.outputs["champion_version"],
        fingerprint=f"{found.outputs['champion_fingerprint']}-{of_step('register')}",
    )
    evaluated = evaluate(
        config=to_parameter(profile.evaluate),
        fingerprint=of_step("evaluate"),
        lineage=found.outputs["lineage"],
        tables=prompted.outputs["tables_so_far"],
        base_model=base.outputs["model"],
        sft_model=tuned.outputs["model"],
        grpo_model=improved.outputs["model"],
        champion=current_champion.outputs["champion"],
        grpo_alarms=improved.outputs["alarms"],
    )
    passed = gate(
        config=to_parameter(profile.gate),
        fingerprint=of_step("evaluate"),
        report=evaluated.outputs["report"],
    )
    with dsl.If(passed.outputs["Output"] == True, name="gate-passed"):  # noqa: E712
        # Of the tables it reads retrieve's; had it from there, the graph is wider than a screen of 1440 px.
        registered = register(
            config=to_parameter(profile.registration),
            tables=prompted.outputs["tables_so_far"],
            model=improved.outputs["model"],
            report=evaluated.outputs["report"],
        )

    tasks = {
        "window": found,
        "sequences": sequenced,
        "retrieve": retrieved,
        "base_model": base,
        "prompts": prompted,
        "sft": tuned,
        "grpo": improved,
        "champion": current_champion,
        "evaluate": evaluated,
        "gate": passed,
        "register": registered,
    }
    _configure(profile, tasks, cached)
    return Outputs(
        window=found.outputs["page"],
        sequences=sequenced.outputs["page"],
        retrieve=retrieved.outputs["page"],
        prompts=prompted.outputs["page"],
        sft=tuned.outputs["page"],
        grpo=improved.outputs["page"],
        evaluate=evaluated.outputs["page"],
        gate=passed.outputs["page"],
        report=evaluated.outputs["report"],
    )


def _drop_implied(tasks: Mapping[str, Any]) -> None:
    """Leave out of each task's dependencies those that its others have.

    The UI draws an edge for each, and with all of them the graph is wider than a screen. The backend adds
    those of inputs by itself.
    """
    needed = {name: set(task.dependent_tasks) for name, task in tasks.items()}

    def ancestors(name: str) -> set[str]:
        return needed[name].union(*map(ancestors, needed[name]))

    for name, task in tasks.items():
        implied = set[str]().union(*map(ancestors, needed[name]))
        task.dependent_tasks[:] = sorted(needed[name] - implied)


def _configure(profile: Profile, tasks: Mapping[str, dsl.PipelineTask], cached: bool) -> None:
    """Set caching, placement and tracking of the tasks by step."""
    commit = lineage.git_commit() if profile.placement else ""
    for step, task in tasks.items():
        if not cached or step in NEVER_CACHED:
            task.set_caching_options(enable_caching=False)
        if profile.placement:
            profile.placement.apply(step, task, commit)
    # A local run sets its database in the environment, outside all cache keys; pods cannot reach it.
    if profile.register.tracking_uri.startswith("http"):
        from kfp import kubernetes

        for step in ("sft", "grpo", "evaluate"):
            tasks[step].set_env_variable("MLFLOW_TRACKING_URI", profile.register.tracking_uri)
            tasks[step].set_env_variable("MLFLOW_EXPERIMENT_NAME", profile.register.experiment)
        for step in ("sft", "grpo", "evaluate", "register"):
            kubernetes.use_field_path_as_env(tasks[step], PIPELINE_RUN, "metadata.labels['pipeline/runid']")


def compile_to(path: Path, profile: Profile, name: str, **arguments: Any) -> None:
    """Write the pipeline of the profile called `name` as YAML; arguments as `build`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(build(profile, name, **arguments), str(path))
