"""The report as a page for people."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from components.shared.reporting import charts, page
from components.shared.reporting.page import Block, Cell, Heading, Note, Table, Text, Tone
from data_contracts.evaluation import (
    CANDIDATE_ORDER,
    CHAMPION,
    FURTHER_GLOSSARY,
    FURTHER_METRICS,
    GLOSSARY,
    HEADLINE_METRICS,
    SCORED_MODEL,
    TITLES,
    TRAINED_MODEL,
    UNFUSED_MODEL,
    Difference,
    EvaluationReport,
    Example,
    format_metric,
)

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


def write(path: Path, report: EvaluationReport) -> None:
    """Write the whole page."""
    blocks = [
        _verdict(report),
        Heading("Ranking quality"),
        *ranking_quality(report),
        Heading("Differences that matter"),
        *_differences(report),
        Heading("Answers of the language models"),
        *_answers(report),
        *_alarms(report),
        *_slices(report),
        *_off_policy(report),
        *_data(report),
        *_examples(report.examples),
        Heading("How this was measured"),
        _method(report),
        Heading("Lineage"),
        lineage(report),
    ]
    page.write(path, "Evaluation report", blocks, lead=str(report.sample))


def _verdict(report: EvaluationReport) -> Block:
    model, best = report.comparator(TRAINED_MODEL), report.best_conventional("ndcg@10")
    difference = report.difference(TRAINED_MODEL, best.name, "ndcg@10")
    if model is None or difference is None:
        return Note(f"{TRAINED_MODEL} was not evaluated.")
    outcome = _outcome(difference)
    text = (
        f"{TRAINED_MODEL} reaches NDCG@10 {model.metrics['ndcg@10']:.4f}; the best conventional model, "
        f"{best.name}, {best.metrics['ndcg@10']:.4f}. {_VERDICTS[outcome]}"
    )
    return Note(text, "" if outcome == "undecided" else _TONES[outcome])


def ranking_quality(report: EvaluationReport) -> list[Block]:
    """Return chart and table of all comparators, the highest figure of each metric in bold."""
    highest = {
        TITLES[metric]: format_metric(metric, max(found.metrics[metric] for found in report.comparators))
        for metric in HEADLINE_METRICS
    }
    marks: list[charts.Mark] = []
    rows: list[list[str | Cell]] = []
    for found in report.comparators:
        bounds = asdict(found.ndcg_at_10_interval)
        marks.append(charts.Mark(label=found.name, value=found.metrics["ndcg@10"], tone=found.kind, **bounds))
        figures = found.figures().items()
        cells = [Cell(text, "best" if highest.get(title) == text else "") for title, text in figures]
        rows.append([found.name, *cells])
    names = {kind: ", ".join(f.name for f in report.comparators if f.kind == kind) for kind in _KINDS}
    title = f"NDCG@10 with {report.sample.confidence:.0%} intervals"
    return [
        page.Figures({title: charts.intervals(marks, from_zero=True)}),
        Text("; ".join(f"{_KINDS[kind]}: {found}" for kind, found in names.items() if found) + "."),
        Table(["model", *report.comparators[0].figures()], rows),
        Text(GLOSSARY, "faint"),
        _further(report),
    ]


def _further(report: EvaluationReport) -> Block:
    rows = [
        [found.name, *(format_metric(metric, found.metrics[metric]) for metric in FURTHER_METRICS)]
        for found in report.comparators
    ]
    header = ["model", *(TITLES[metric] for metric in FURTHER_METRICS)]
    return page.Details("More metrics", [Table(header, rows), Text(FURTHER_GLOSSARY, "faint")])


def _differences(report: EvaluationReport) -> list[Block]:
    marks: list[charts.Mark] = []
    rows: list[list[str | Cell]] = []
    baselines = (
        CANDIDATE_ORDER,
        report.best_conventional("ndcg@10").name,
        CHAMPION,
        "base",
        "sft",
        SCORED_MODEL,
        UNFUSED_MODEL,
    )
    for d in reversed(report.differences):  # the newest model first; the JSON report holds all of them
        if d.metric != "ndcg@10" or d.model == CHAMPION or d.baseline not in baselines:
            continue
        outcome = _outcome(d)
        label = f"{d.model} - {d.baseline}"
        marks.append(charts.Mark(label=label, value=d.mean, low=d.low, high=d.high, tone=outcome))
        interval = f"{d.low:+.4f} to {d.high:+.4f}"
        rows.append([label, f"{d.mean:+.4f}", interval, f"{d.p_holm:.2g}", Cell(outcome, _TONES[outcome])])
    explained = (
        "NDCG@10 of the first minus the second, on the same users; paired bootstrap, "
        f"{report.sample.confidence:.0%} intervals. An interval that holds zero decides nothing. p: of no "
        "difference, corrected (Holm) for all comparisons of the model."
    )
    return [
        Text(explained),
        page.Figures({"Differences in NDCG@10": charts.intervals(marks)}),
        Table(["comparison", "difference", "interval", "p", ""], rows),
    ]


def _outcome(difference: Difference) -> str:
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "undecided"


def _answers(report: EvaluationReport) -> list[Block]:
    header = ["model", "valid", "with repeats", "cut off", "most frequent answer", "copies the list"]
    header += ["same after other reasoning", "tokens per user", "s per user"]
    rows = []
    for found in report.comparators:
        if answers := found.answers:
            shares = (answers.valid_share, answers.duplicate_share, answers.truncated_share)
            ignored = answers.reasoning_ignored_share
            probed = "" if ignored is None else f"{ignored:.0%} of {answers.reasoning_probes}"
            costs = (f"{answers.tokens_per_user:.0f}", f"{answers.seconds_per_user:.2f}")
            percent = [f"{share:.1%}" for share in (*shares, answers.constant_share, answers.copied_share)]
            rows.append([found.name, *percent, probed, *costs])
    note = (
        "The candidates that an answer names come first, the others keep their order; so a model without a "
        "usable answer scores like the candidates."
    )
    return [Table(header, rows), Text(note, "faint")]


def _alarms(report: EvaluationReport) -> list[Block]:
    if not report.alarms:
        return [Note("No health alarm.", "good")]
    return [Note(str(alarm), "bad") for alarm in report.alarms]


def _slices(report: EvaluationReport) -> list[Block]:
    best = report.best_conventional("ndcg@10").name
    named = dict.fromkeys((CANDIDATE_ORDER, best, CHAMPION, "sft", TRAINED_MODEL))
    shown = [name for name in named if report.comparator(name)]
    rows: list[list[str | Cell]] = []
    for part in report.slices:
        found = next((d for d in part.differences if (d.model, d.baseline) == (TRAINED_MODEL, best)), None)
        row: list[str | Cell] = [part.name, f"{part.users:,}"]
        row += [format_metric("ndcg@10", part.ndcg_at_10[name]) for name in shown]
        if found:
            outcome = _outcome(found)
            row.append(Cell(str(found), _TONES[outcome]))
        rows.append(row)
    header = ["part", "users", *shown, f"{TRAINED_MODEL} - {best}"]
    text = "NDCG@10 on parts of the users, and the trained model against the best conventional one there. "
    text += " ".join(f"{part.name.capitalize()}: {part.rule}." for part in report.slices if part.rule)
    return [Heading("Where it is hard"), Text(text), Table(header, rows)]


def _off_policy(report: EvaluationReport) -> list[Block]:
    if not report.off_policy:
        return []
    users = report.off_policy[0].users
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
        f"{users:,} of the users were shown a list whose propensities are logged. Mean engagement per slot, "
        "had they been shown each ranking instead: slots in which it agrees with the shown list, weighted by "
        "the inverse propensity (self-normalised), intervals over users. Few effective slots prove little."
    )
    header = ["ranking", "engagement", "interval", "effective slots", "users who match"]
    return [Heading("Off-policy estimate"), Text(text), Table(header, rows)]


def _data(report: EvaluationReport) -> list[Block]:
    data = report.data
    if data is None:
        return []
    rows = [
        ["users", f"{data.users:,}"],
        ["items", f"{data.items:,}, {data.new_item_share:.1%} of them without interactions in training"],
        ["events", f"{data.events:,}"],
        ["actions", ", ".join(f"{name} {share:.1%}" for name, share in data.actions.items())],
        ["history length", ", ".join(f"{name}: {share:.0%}" for name, share in data.history_lengths.items())],
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
    return Text(
        f"Users are a sample by seed {sample.seed}. Every model ranks the full catalogue: a language model "
        f"orders its {sample.candidates:.0f} candidates, and a label outside them counts as a miss, so no "
        f"order of theirs has a recall above {sample.recall_ceiling:.4f}. Labels are the first items of the "
        "test window that are engaged with enough, as many as an answer names (prompts.answer_length, "
        "prompts.label_min_engagement), here as on retrieval's page. Intervals: "
        f"{sample.bootstrap_samples:,} bootstrap samples of users, the same for all models. Popularity and "
        "novelty are counted on the training part only."
    )


def lineage(report: EvaluationReport) -> Block:
    """Return what the run was made from."""
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in report.lineage.items()}
    return Table([], sorted(texts.items()), is_text=True)
