"""The step's page: health, curves, and answers before and after training."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from components.grpo.progress import Progress
from components.shared.prompting.table import PromptRow
from components.shared.reporting import charts, page
from components.shared.reporting.page import Block, Details, Figures, Heading, Note, Pre, Text
from data_contracts.evaluation import Alarm


def write(path: Path, progress: Progress, valid: Sequence[PromptRow], alarms: Sequence[Alarm]) -> None:
    """Write the page of a training; `valid` are the prompts that it was validated on."""
    validation: dict[str, charts.Curve] = {
        name: {step: figures[name] for step, figures in progress.validations.items()}
        for name in progress.validations[0]
    }
    blocks: list[Block] = [
        Text(f"Health: {len(alarms) or 'no'} alarm{'s' if len(alarms) > 1 else ''}."),
        *(Note(str(alarm), "bad") for alarm in alarms),
        Figures(charts.curves({**validation, **progress.history})),
        Heading("Answers before and after training"),
        *_answers(progress, valid),
    ]
    steps = ", ".join(map(str, progress.validations))
    page.write(path, "GRPO", blocks, lead=f"Validated after steps {steps}; kept: {progress.kept}.")


def _answers(progress: Progress, valid: Sequence[PromptRow]) -> Iterator[Block]:
    """Yield the first validation prompts with the SFT model's and the best step's answers."""
    if not any(progress.answers):
        yield Text("There are none after training: the SFT model is kept.")
    for n, row in enumerate(valid[: len(progress.answers[0])]):
        labels = ", ".join(map(str, row.labels)) or "not among the candidates"
        blocks: list[Block] = [Pre(row.messages[-1]["content"])]
        for step, answers in progress.answers.items():
            blocks += [Text(f"Step {step}" if step else "SFT model"), Pre(answers[n].strip() or "(empty)")]
        yield Details(f"user {row.user_id}, labels: {labels}", blocks)
