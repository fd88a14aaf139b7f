"""The report as a page for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from components.evaluate.report import figures
from components.shared.reporting import markdown, page
from components.shared.reporting.page import Block, Cell, Heading, Note, Table, Text
from data_contracts.evaluation import TRAINED_MODEL, EvaluationReport, Example

if TYPE_CHECKING:
    from components.evaluate.gate import Decision

_VERDICTS = {
    "better": "It is better: the interval of the difference lies above zero.",
    "worse": "It is worse: the interval of the difference lies below zero.",
    "undecided": "Which of them is better is undecided: the interval holds zero or the corrected p is large.",
}


def write(path: Path, report: EvaluationReport, decision: "Decision | None" = None) -> None:
    """Write the whole page; before the gate has decided, without its rules."""
    page.write(path, "Evaluation report", blocks(report, decision), lead=str(report.sample))


def write_summary(path: Path, report: EvaluationReport, decision: "Decision") -> None:
    """Write verdict, comparators and rules as Markdown."""
    rules = (Heading("Rules of the gate"), _rules(decision))
    quality = (Text(f"{report.sample}."), figures.comparators(report))
    markdown.write(path, [*_verdict(report, decision), *quality, *rules])


def blocks(report: EvaluationReport, decision: "Decision | None") -> list[Block]:
    """Return the whole report, the verdict first."""
    return [
        *_verdict(report, decision),
        Heading("Ranking quality"),
        *figures.ranking_quality(report),
        Heading("Differences that matter"),
        *figures.differences(report),
        Heading("Where it is hard"),
        *figures.slices(report),
        Heading("Rules of the gate"),
        _rules(decision),
        Heading("Answers of the language models"),
        *figures.answers(report),
        *_alarms(report),
        *_off_policy(report),
        *_data(report),
        Heading("Lineage"),
        _lineage(report),
        Heading("How this was measured"),
        _method(report),
        *_examples(report.examples),
    ]


def _verdict(report: EvaluationReport, decision: "Decision | None") -> list[Text]:
    decided: list[Text] = [Note(str(decision), "good" if decision.passed else "warn")] if decision else []
    model, best = report.comparator(TRAINED_MODEL), report.best_conventional("ndcg@10")
    difference = report.difference(TRAINED_MODEL, best.name, "ndcg@10")
    if model is None or difference is None:
        return [*decided, Note(f"{TRAINED_MODEL} was not evaluated.")]
    outcome = figures.outcome_of(difference, report.sample.confidence)
    text = (
        f"{TRAINED_MODEL} reaches NDCG@10 {model.metrics['ndcg@10']:.4f}; the best conventional model, "
        f"{best.name}, {best.metrics['ndcg@10']:.4f}. {_VERDICTS[outcome]}"
    )
    return [*decided, Note(text, "" if outcome == "undecided" else figures.TONES[outcome])]


def _rules(decision: "Decision | None") -> Text | Table:
    if decision is None:
        return Text("The gate decides by these figures; its page is this report with its rules.", "faint")
    outcomes = {True: Cell("pass", "good"), False: Cell("fail", "bad")}
    rules = [(rule.name, rule.figure, outcomes[rule.passed]) for rule in decision.rules]
    return Table(["rule", "found", ""], rules, is_text=True)


def _alarms(report: EvaluationReport) -> list[Block]:
    if not report.alarms:
        return [Note("No health alarm.", "good")]
    return [Note(str(alarm), "bad") for alarm in report.alarms]


def _off_policy(report: EvaluationReport) -> list[Block]:
    if not report.off_policy:
        return []
    first = report.off_policy[0]
    rows = [
        [
            found.name,
            f"{found.engagement:.4f}",
            f"{found.low:.4f} to {found.high:.4f}",
            f"{found.effective_slots:,.0f}",
            f"{found.matching_users:,}",
        ]
        for found in report.off_policy
    ]
    text = (
        f"{first.users:,} users were shown a list whose propensities are logged, "
        f"{first.users_without_label:,} of them without a label. Mean engagement per slot, had they been "
        "shown each ranking instead: slots in which it agrees with the shown list, weighted by the inverse "
        "propensity, intervals over users. Few effective slots prove little."
    )
    header = ["ranking", "engagement", "interval", "effective slots", "users who match"]
    return [Heading("Off-policy estimate"), Text(text), Table(header, rows)]


def _data(report: EvaluationReport) -> list[Block]:
    data = report.data
    if data is None:
        return []
    lengths = sorted(data.history_lengths.items(), key=lambda found: int(found[0].rpartition(" ")[2]))
    rows = [
        ["users", f"{data.users:,}"],
        ["items", f"{data.items:,}, {data.new_item_share:.1%} of them without interactions in training"],
        ["events", f"{data.events:,}"],
        ["actions", ", ".join(f"{name} {share:.1%}" for name, share in data.actions.items())],
        ["history length", ", ".join(f"{name}: {share:.0%}" for name, share in lengths)],
        ["refused rows", ", ".join(f"{name} {n:,}" for name, n in data.refused.items()) or "none"],
    ]
    blocks: list[Block] = [Heading("Data"), Table([], rows, is_text=True)]
    if not report.drift:
        return [*blocks, Text("No champion whose training data are known, so no drift.", "faint")]
    drifted: list[list[str | Cell]] = [
        [
            d.name,
            d.then,
            d.now,
            f"{d.value:.3g}",
            Cell(f"{d.bound:.3g}", "bad" if d.value > d.bound else "good"),
        ]
        for d in report.drift
    ]
    text = (
        "Against the champion's training data. Volume: factor of change; the others: the share that would "
        "have to move for the distributions to be equal."
    )
    return [*blocks, Text(text), Table(["drift", "champion", "now", "value", "bound"], drifted, is_text=True)]


def _examples(examples: Sequence[Example]) -> list[Block]:
    blocks: list[Block] = [Heading("Prompts and answers, before and after training")] if examples else []
    for number, example in enumerate(examples):
        labels = f"What came next: {', '.join(example.labels)}"
        shown: list[Block] = [page.Pre(example.prompt), Text(labels)]
        for answer in example.answers:
            rank = f"label at rank {answer.label_rank}" if answer.label_rank else "label not in the top 10"
            shown.append(Text(f"{answer.model}: {'valid' if answer.valid else 'not valid'}; {rank}"))
            shown.append(page.Pre(answer.text or "(nothing)"))
        blocks.append(page.Details(f"User {example.user_id}", shown, is_open=number == 0))
    return blocks


def _method(report: EvaluationReport) -> Block:
    sample = report.sample
    asked = (
        f" Language models were asked about the {sample.users_asked:,} users whose label is among the "
        "candidates; the others keep the candidates' order, which is as accurate as any, and by it count in "
        "diversity, novelty and coverage."
        if sample.users_asked
        else ""
    )
    is_sample = sample.users < sample.users_available
    users = f"a sample by seed {sample.seed}" if is_sample else "all that have a test prompt"
    return Text(
        f"Users are {users}. Every model ranks the full catalogue: a language model "
        f"orders its {sample.candidates:.0f} candidates, and a label outside them counts as a miss, so no "
        f"order of theirs has a recall above {sample.recall_ceiling:.4f}.{asked} Labels are the first items "
        "of the test window that are engaged with enough, as many as an answer names (prompts.answer_length, "
        "prompts.label_min_engagement), here as on retrieval's page. Intervals: "
        f"{sample.bootstrap_samples:,} bootstrap samples of users, the same for all models. Popularity and "
        "novelty are counted on the training part only."
    )


def _lineage(report: EvaluationReport) -> Block:
    return Table([], sorted(report.known_lineage().items()), is_text=True)
