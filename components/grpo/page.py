"""The step's page: health, curves, and answers before and after, for people to read."""

import html
from collections.abc import Sequence
from pathlib import Path

from components.grpo import health
from components.grpo.progress import Progress
from components.shared.prompting.table import PromptRow
from components.shared.reporting import curves
from data_contracts.evaluation import Alarm


def write(path: Path, progress: Progress, valid: Sequence[PromptRow], alarms: Sequence[Alarm]) -> None:
    """Write the page of a training; `valid` are the prompts that it was validated on."""
    validation: dict[str, curves.Curve] = {
        name: {step: figures[name] for step, figures in progress.validations.items()}
        for name in ("valid_ndcg@10", "valid_share")
    }
    head = _kept(progress) + health.page(alarms)
    curves.write(path, "GRPO", {**validation, **progress.history}, head, _answers(progress, valid))


def _kept(progress: Progress) -> str:
    steps = ", ".join(map(str, progress.validations))
    best = progress.best_step
    kept = f"step {best}" if best else "the SFT model (no step was better)"
    return f"<p>Validated after steps {steps}; kept: {kept}.</p>"


def _answers(progress: Progress, valid: Sequence[PromptRow]) -> str:
    """Return the first validation prompts with the answers of the SFT model and of the best one."""
    names = {0: "SFT model"} | {step: f"Step {step}" for step in progress.answers if step}
    shown = "".join(
        f"<details><summary>user {html.escape(row.user_id)}, right: {_labels(row)}</summary>"
        f"<pre>{html.escape(row.messages[-1]['content'])}</pre>"
        + "".join(
            f"<h3>{name}</h3><pre>{html.escape(progress.answers[step][n].strip()) or '(empty)'}</pre>"
            for step, name in names.items()
        )
        + "</details>"
        for n, row in enumerate(valid[: len(progress.answers[0])])
    )
    after = "" if len(names) > 1 else "<p>No step was better, so there are none after training.</p>"
    return f"<h2>Answers before and after</h2>{after}{shown}"


def _labels(row: PromptRow) -> str:
    return ", ".join(map(str, row.labels)) or "not among the candidates"
