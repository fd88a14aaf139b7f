"""The report as a page for people."""

import json
from collections.abc import Sequence
from pathlib import Path

from components.shared.reporting import charts, page
from components.shared.reporting.page import Block, Cell, Heading, Note, Table, Text, Tone
from data_contracts.evaluation import (
    CANDIDATE_ORDER,
    CHAMPION,
    GLOSSARY,
    TITLES,
    Comparator,
    Difference,
    EvaluationReport,
    Example,
)

_TO = "\u00a0to\u00a0"  # keeps an interval on one line
_DIGITS = {"ilad": 3, "novelty": 2, "coverage": 3}
_KINDS = {
    "conventional": "Conventional",
    "online": "Shown online",
    "champion": "Champion in production",
    "llm": "Language models",
}
_TONES: dict[str, Tone] = {"better": "good", "worse": "bad", "undecided": "faint"}
_VERDICTS = {
    "better": "It is better: the interval of the difference lies above zero.",
    "worse": "It is worse: the interval of the difference lies below zero.",
    "undecided": "Which of them is better is undecided: the interval of the difference holds zero.",
}
_ANSWER_COLUMNS = (
    "valid",
    "with repeats",
    "cut off",
    "most frequent answer",
    "same after other reasoning",
    "tokens per user",
    "s per user",
)


def write(path: Path, report: EvaluationReport) -> None:
    """Write the whole page."""
    blocks = [
        _verdict(report),
        _cards(report),
        Heading("Ranking quality"),
        *_quality(report),
        Heading("Differences that matter"),
        *_differences(report),
        Heading("Answers of the language models"),
        *_answers(report),
        *_alarms(report),
        *_slices(report),
        *_examples(report.examples),
        Heading("How this was measured"),
        _method(report),
        Heading("Lineage"),
        _lineage(report),
    ]
    page.write(path, "Evaluation report", blocks)


def _verdict(report: EvaluationReport) -> Block:
    model, best = _newest(report), report.best_conventional("ndcg@10")
    difference = report.difference(model.name, best.name, "ndcg@10") if model and best else None
    if model is None or best is None or difference is None:
        return Note("No language model was compared with a conventional model.")
    outcome = _outcome(difference)
    text = (
        f"{model.name} reaches NDCG@10 {model.metrics['ndcg@10']:.4f}; the best conventional model, "
        f"{best.name}, {best.metrics['ndcg@10']:.4f}. {_VERDICTS[outcome]}"
    )
    return Note(text, "" if outcome == "undecided" else _TONES[outcome])


def _newest(report: EvaluationReport) -> Comparator | None:
    """Return the last language model, which is the last that was trained."""
    return next((found for found in reversed(report.comparators) if found.kind == "llm"), None)


def _cards(report: EvaluationReport) -> Block:
    sample, model = report.sample, _newest(report)
    ceiling = f"recall ceiling: labels among the {sample.candidates:.0f} candidates"
    cards = [
        (f"{sample.users:,}", f"{sample.split} users, of {sample.users_available:,}"),
        (f"{sample.recall_ceiling:.1%}", ceiling),
    ]
    if model and model.answers:
        seconds = f"{model.answers.seconds_per_user:.2f} s"
        cards.append((f"{model.answers.valid_share:.1%}", f"valid answers of {model.name}"))
        cards.append((seconds, f"per user, {model.name}, batched, this machine"))
    alarms = len(report.alarms)
    return page.Cards([*cards, (str(alarms), "health alarm" if alarms == 1 else "health alarms")])


def _quality(report: EvaluationReport) -> list[Block]:
    best = {metric: max(found.metrics[metric] for found in report.comparators) for metric in TITLES}
    marks: list[charts.Mark] = []
    rows: list[list[str | Cell]] = []
    for found in report.comparators:
        low, high = found.ndcg_at_10_interval.low, found.ndcg_at_10_interval.high
        ndcg = found.metrics["ndcg@10"]
        marks.append(charts.Mark(label=found.name, value=ndcg, low=low, high=high, tone=found.kind))
        metrics = [
            Cell(f"{value:.{_DIGITS.get(metric, 4)}f}", "best" if value == best[metric] else "")
            for metric, value in ((metric, found.metrics[metric]) for metric in TITLES)
        ]
        rows.append([found.name, *metrics, f"{low:.4f}{_TO}{high:.4f}"])
    interval = f"{report.sample.confidence:.0%} interval"
    names = {kind: ", ".join(f.name for f in report.comparators if f.kind == kind) for kind in _KINDS}
    return [
        page.Figures({f"NDCG@10 with {interval}s": charts.intervals(marks, from_zero=True)}),
        Text("; ".join(f"{_KINDS[kind]}: {found}" for kind, found in names.items() if found) + "."),
        Table(["model", *TITLES.values(), "NDCG@10 interval"], rows),
        Text(GLOSSARY, "faint"),
    ]


def _differences(report: EvaluationReport) -> list[Block]:
    marks: list[charts.Mark] = []
    rows: list[list[str | Cell]] = []
    for d in _shown_differences(report):
        outcome = _outcome(d)
        label = f"{d.model} - {d.baseline}"
        marks.append(charts.Mark(label=label, value=d.mean, low=d.low, high=d.high, tone=outcome))
        interval = f"{d.low:+.4f}{_TO}{d.high:+.4f}"
        rows.append([label, f"{d.mean:+.4f}", interval, Cell(outcome, _TONES[outcome])])
    if not rows:
        return [Text("There is nothing to compare.", "faint")]
    explained = (
        "NDCG@10 of the first minus the second, on the same users; paired bootstrap, "
        f"{report.sample.confidence:.0%} intervals. An interval that holds zero decides nothing."
    )
    return [
        Text(explained),
        page.Figures({"Differences in NDCG@10": charts.intervals(marks)}),
        Table(["comparison", "difference", "interval", ""], rows),
    ]


def _shown_differences(report: EvaluationReport) -> list[Difference]:
    """Return the NDCG@10 differences that the page shows; the JSON report holds all of them."""
    best = report.best_conventional("ndcg@10")
    baselines = [CANDIDATE_ORDER, best.name if best else CANDIDATE_ORDER, CHAMPION, "base", "sft"]
    models = [found.name for found in reversed(report.comparators) if found.kind == "llm"]
    pairs = [(model, baseline) for model in models for baseline in dict.fromkeys(baselines)]
    found = [report.difference(model, baseline, "ndcg@10") for model, baseline in pairs]
    return [difference for difference in found if difference]


def _outcome(difference: Difference) -> str:
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "undecided"


def _answers(report: EvaluationReport) -> list[Block]:
    rows = []
    for comparator in report.comparators:
        if (answers := comparator.answers) is None:
            continue
        shares = ("valid_share", "duplicate_share", "truncated_share", "constant_share")
        ignored = answers.reasoning_ignored_share
        rows.append(
            [
                comparator.name,
                *(f"{getattr(answers, share):.1%}" for share in shares),
                "" if ignored is None else f"{ignored:.0%} of {answers.reasoning_probes}",
                f"{answers.tokens_per_user:.0f}",
                f"{answers.seconds_per_user:.2f}",
            ]
        )
    note = (
        "The candidates that an answer names come first, the others keep their order; so a model without a "
        "usable answer scores like the candidates."
    )
    return [Table(["model", *_ANSWER_COLUMNS], rows), Text(note, "faint")]


def _alarms(report: EvaluationReport) -> list[Block]:
    if not report.alarms:
        return [Note("No health alarm.", "good")]
    return [
        Note(
            f"{alarm.name} ({alarm.model}): {alarm.value:.3g}, bound {alarm.bound:.3g}. "
            f"{alarm.remedy[:1].upper() + alarm.remedy[1:]}.",
            "bad",
        )
        for alarm in report.alarms
    ]


def _slices(report: EvaluationReport) -> list[Block]:
    if not report.slices:
        return []
    rules = " ".join(f"{part.name.capitalize()}: {part.rule}." for part in report.slices)
    header = ["model", f"all ({report.sample.users})", *(f"{s.name} ({s.users})" for s in report.slices)]
    rows = []
    for found in report.comparators:
        values = [found.metrics["ndcg@10"], *(part.ndcg_at_10[found.name] for part in report.slices)]
        rows.append([found.name, *(f"{value:.4f}" for value in values)])
    text = f"NDCG@10 on parts of the users. {rules}"
    return [Heading("Where it is hard"), Text(text), Table(header, rows)]


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
    return Text(
        f"{sample.users:,} of {sample.users_available:,} users of the {sample.split} split "
        f"(seed {sample.seed}). Every model ranks the full catalogue of {sample.catalogue_items:,} items: a "
        f"language model orders its {sample.candidates:.0f} candidates, and a label outside them counts as a "
        f"miss, so no order of theirs has a recall above {sample.recall_ceiling:.4f}. Intervals: "
        f"{sample.bootstrap_samples:,} bootstrap samples of users, the same for all models. Popularity and "
        "novelty are counted on the training part only."
    )


def _lineage(report: EvaluationReport) -> Block:
    texts = [v if isinstance(v, str) else json.dumps(v, sort_keys=True) for v in report.lineage.values()]
    return Table([], sorted(zip(report.lineage, texts, strict=True)), is_text=True)
