"""The report as one self-contained HTML page for people; everything that comes from data is escaped."""

import html
import json
from collections.abc import Sequence

from components.evaluate.charts import Mark, bars, forest
from components.evaluate.page_style import GLOSSARY, document
from components.evaluate.summary import TITLES
from data_contracts.evaluation import (
    CANDIDATE_ORDER,
    AnswerStatistics,
    Comparator,
    Difference,
    EvaluationReport,
    Example,
    ExampleAnswer,
    Interval,
)

_DIGITS = {"ilad": 3, "novelty": 2, "coverage": 3}


def render(report: EvaluationReport) -> str:
    """Return the whole page."""
    parts = [
        "<h1>Evaluation report</h1>",
        f'<p class="lead">{_headline(report)}</p>',
        _cards(report),
        "<h2>Ranking quality</h2>",
        _quality_chart(report),
        _quality_table(report),
        GLOSSARY,
        "<h2>Differences that matter</h2>",
        _differences(report),
        "<h2>Answers of the language models</h2>",
        _answers_table(report),
        _alarms(report),
        _slices(report),
        _examples(report.examples),
        "<h2>How this was measured</h2>",
        _method(report),
        "<h2>Lineage</h2>",
        _lineage(report),
    ]
    return document("Evaluation report", "\n".join(part for part in parts if part))


def _headline(report: EvaluationReport) -> str:
    model, best = _newest(report), report.best_conventional("ndcg@10")
    if model is None or best is None:
        return "No language model was evaluated."
    difference = report.difference(model.name, best.name, "ndcg@10")
    if difference is None:
        return ""
    verdict = {
        "better": "It is better: the interval of the difference lies above zero.",
        "worse": "It is worse: the interval of the difference lies below zero.",
        "undecided": "Which of them is better is undecided: the interval of the difference holds zero.",
    }[_tone(difference)]
    return (
        f"<b>{html.escape(model.name)}</b> reaches NDCG@10 {model.metrics['ndcg@10']:.4f}; the best "
        f"conventional model, <b>{html.escape(best.name)}</b>, {best.metrics['ndcg@10']:.4f}. {verdict}"
    )


def _newest(report: EvaluationReport) -> Comparator | None:
    """Return the last language model: the one that training ended with."""
    return next((one for one in reversed(report.comparators) if one.kind == "llm"), None)


def _cards(report: EvaluationReport) -> str:
    sample, model = report.sample, _newest(report)
    cards = [
        (f"{sample.users:,}", f"{sample.split} users, of {sample.users_available:,}"),
        (
            f"{sample.recall_ceiling:.1%}",
            f"recall ceiling: labels among the {sample.candidates:.0f} candidates",
        ),
    ]
    if model and model.answers:
        name = html.escape(model.name)
        cards.append((f"{model.answers.valid_share:.1%}", f"valid answers of {name}"))
        cards.append((f"{model.answers.seconds_per_user:.2f} s", f"a user, {name}, batched, this machine"))
    alarms = len(report.alarms)
    cards.append((str(alarms), "health alarm" if alarms == 1 else "health alarms"))
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{figure}</b><span>{text}</span></div>' for figure, text in cards)
        + "</div>"
    )


def _quality_chart(report: EvaluationReport) -> str:
    marks = [
        Mark(label=one.name, value=one.metrics["ndcg@10"], interval=one.ndcg_at_10_interval, tone=one.kind)
        for one in report.comparators
    ]
    confidence = f"{report.sample.confidence:.0%}"
    return f"<p>NDCG@10 with {confidence} intervals. {_legend(report)}</p>" + bars("NDCG@10 by model", marks)


def _legend(report: EvaluationReport) -> str:
    names = {
        "conventional": "conventional",
        "online": "shown online",
        "champion": "champion in production",
        "llm": "language model",
    }
    shown = [kind for kind in names if any(one.kind == kind for one in report.comparators)]
    return "&ensp;".join(f'<span class="dot {kind}"></span>{names[kind]}' for kind in shown)


def _quality_table(report: EvaluationReport) -> str:
    best = {key: max(one.metrics[key] for one in report.comparators) for key in TITLES}
    rows = []
    for one in report.comparators:
        cells = []
        for key in TITLES:
            mark = ' class="best"' if one.metrics[key] == best[key] else ""
            cells.append(f"<td{mark}>{one.metrics[key]:.{_DIGITS.get(key, 4)}f}</td>")
        name = f'<td><span class="dot {one.kind}"></span>{html.escape(one.name)}</td>'
        rows.append(f"<tr>{name}{''.join(cells)}</tr>")
    return _table(["model", *TITLES.values()], rows)


def _differences(report: EvaluationReport) -> str:
    shown = _shown_differences(report)
    if not shown:
        return '<p class="faint">There is nothing to compare.</p>'
    marks = [
        Mark(
            label=f"{one.model} - {one.baseline}",
            value=one.mean,
            interval=Interval(low=one.low, high=one.high),
            tone=_tone(one),
        )
        for one in shown
    ]
    sample = report.sample
    rows = [
        f"<tr><td>{html.escape(one.model)} against {html.escape(one.baseline)}</td><td>{one.mean:+.4f}</td>"
        f'<td>[{one.low:+.4f}, {one.high:+.4f}]</td><td class="{_tone(one)}">{_tone(one)}</td></tr>'
        for one in shown
    ]
    return (
        "<p>NDCG@10 of the first minus the second, on the same users; paired bootstrap, "
        f"{sample.confidence:.0%} intervals. A whisker that crosses the line at zero decides nothing.</p>"
        + forest("Differences in NDCG@10", marks)
        + _table(["comparison", "difference", "interval", ""], rows)
    )


def _shown_differences(report: EvaluationReport) -> list[Difference]:
    """Return the NDCG@10 differences that people ask for; the JSON report holds all of them."""
    best = report.best_conventional("ndcg@10")
    asked = [CANDIDATE_ORDER, best.name if best else CANDIDATE_ORDER, "champion", "base", "sft"]
    models = [one.name for one in reversed(report.comparators) if one.kind == "llm"]
    pairs = [(model, baseline) for model in models for baseline in dict.fromkeys(asked)]
    found = [report.difference(model, baseline, "ndcg@10") for model, baseline in pairs]
    return [one for one in found if one]


def _tone(difference: Difference) -> str:
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "undecided"


def _answers_table(report: EvaluationReport) -> str:
    rows = [
        f"<tr><td>{html.escape(one.name)}</td><td>{one.answers.valid_share:.1%}</td>"
        f"<td>{one.answers.duplicate_share:.1%}</td><td>{one.answers.truncated_share:.1%}</td>"
        f"<td>{one.answers.constant_share:.1%}</td><td>{_ignored(one.answers)}</td>"
        f"<td>{one.answers.tokens_per_user:.0f}</td>"
        f"<td>{one.answers.seconds_per_user:.2f}</td></tr>"
        for one in report.comparators
        if one.answers
    ]
    header = [
        "model",
        "valid",
        "with repeats",
        "cut off",
        "most frequent answer",
        "same after other reasoning",
        "tokens a user",
        "s a user",
    ]
    note = (
        "<p><small>What an answer names usably comes first, the other candidates keep their order; so a "
        "model that says nothing usable scores like the candidates.</small></p>"
    )
    return _table(header, rows) + note if rows else '<p class="faint">No language model was asked.</p>'


def _ignored(answers: AnswerStatistics) -> str:
    if answers.reasoning_ignored_share is None:
        return ""
    return f"{answers.reasoning_ignored_share:.0%} of {answers.reasoning_probes}"


def _alarms(report: EvaluationReport) -> str:
    if not report.alarms:
        return '<p class="fine">No health alarm.</p>'
    return "".join(
        f'<p class="alarm"><b>{html.escape(one.name)}</b> ({html.escape(one.model)}): {one.value:.3g}, bound '
        f"{one.bound:.3g}. {html.escape(one.remedy[:1].upper() + one.remedy[1:])}.</p>"
        for one in report.alarms
    )


def _slices(report: EvaluationReport) -> str:
    if not report.slices:
        return ""
    rows = []
    for one in report.comparators:
        cells = "".join(f"<td>{part.ndcg_at_10.get(one.name, 0.0):.4f}</td>" for part in report.slices)
        rows.append(f"<tr><td>{html.escape(one.name)}</td><td>{one.metrics['ndcg@10']:.4f}</td>{cells}</tr>")
    rules = " ".join(
        f"<b>{html.escape(part.name.capitalize())}</b>: {html.escape(part.rule)}." for part in report.slices
    )
    header = ["model", f"all ({report.sample.users})", *(f"{s.name} ({s.users})" for s in report.slices)]
    return f"<h2>Where it is hard</h2><p>NDCG@10 on parts of the users. {rules}</p>" + _table(header, rows)


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    blocks = []
    for number, one in enumerate(examples):
        labels = ", ".join(html.escape(label) for label in one.labels)
        answers = "".join(_answer(answer) for answer in one.answers)
        blocks.append(
            f"<details{' open' if number == 0 else ''}><summary>User {html.escape(one.user_id)}</summary>"
            f"<pre>{html.escape(one.prompt)}</pre><p>What came next: <b>{labels}</b></p>{answers}</details>"
        )
    return "<h2>Prompts and answers, before and after training</h2>" + "".join(blocks)


def _answer(one: ExampleAnswer) -> str:
    rank = f"label at rank {one.label_rank}" if one.label_rank else "label not in the top 10"
    validity = "valid" if one.valid else "not valid"
    text = html.escape(one.text) or "(nothing)"
    return f"<p><b>{html.escape(one.model)}</b> <small>{validity}; {rank}</small></p><pre>{text}</pre>"


def _method(report: EvaluationReport) -> str:
    sample = report.sample
    return (
        f"<p>{sample.users:,} of {sample.users_available:,} users of the {sample.split} split "
        f"(seed {sample.seed}). Every model ranks the full catalogue of {sample.catalogue_items:,} items: a "
        f"language model orders its {sample.candidates:.0f} candidates, and a label outside them counts as a "
        f"miss, so no order of theirs can pass a recall of {sample.recall_ceiling:.4f}. Intervals: "
        f"{sample.bootstrap_samples:,} bootstrap samples of users, the same for all models. Popularity and "
        "novelty are counted on the training part only.</p>"
    )


def _lineage(report: EvaluationReport) -> str:
    if not report.lineage:
        return '<p class="faint">None was given.</p>'
    rows = []
    for key, value in sorted(report.lineage.items()):
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        rows.append(f"<tr><td>{html.escape(key)}</td><td>{html.escape(text)}</td></tr>")
    return f'<table class="text">{"".join(rows)}</table>'


def _table(header: Sequence[str], rows: Sequence[str]) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in header)
    return f'<div class="scroll"><table><tr>{titles}</tr>{"".join(rows)}</table></div>'
