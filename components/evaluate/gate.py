"""The gate: rules over one evaluation report. A gate that refuses is a result, not an error."""

import math
from dataclasses import dataclass
from pathlib import Path

from components.evaluate.config import GateConfig
from components.evaluate.report import page
from components.shared.errors import ConfigError, DataError, faults_as
from components.shared.logs import logger
from data_contracts.evaluation import CHAMPION, SCORED_MODEL, TRAINED_MODEL, Comparator, EvaluationReport
from data_contracts.metrics import TITLES

log = logger("gate")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: its name, the value that was found, and whether that passes."""

    name: str
    figure: str
    passed: bool

    def __str__(self) -> str:
        return f"{'pass' if self.passed else 'FAIL'}: {self.name}: {self.figure}"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Every rule with its value; the model passes if all of them do."""

    rules: tuple[Rule, ...]

    @property
    def passed(self) -> bool:
        """Return whether every rule passed."""
        return all(rule.passed for rule in self.rules)

    def __str__(self) -> str:
        if self.passed:
            return f"{TRAINED_MODEL} passed the gate and is registered."
        failed = sum(not rule.passed for rule in self.rules)
        return f"{TRAINED_MODEL} is not registered: it fails {failed} of the gate's {len(self.rules)} rules."


def run(config: GateConfig, *, report: Path, html: Path, summary: Path) -> Decision:
    """Return the decision on the report file.

    Written are `html`, the report's page with its rules, and `summary`, the most important in Markdown.
    """
    with faults_as(DataError):
        evaluated = EvaluationReport.read(report)
    decided = decide(config, evaluated)
    page.write(html, evaluated, decided)
    page.write_summary(summary, evaluated, decided)
    for rule in decided.rules:
        log.info("%s", rule)
    return decided


def decide(config: GateConfig, report: EvaluationReport) -> Decision:
    """Return the decision on the trained model by every rule of `config`.

    A missing champion is no error, as there is none before the first promotion; any other opponent is.
    """
    model = report.comparator(TRAINED_MODEL)
    if model is None or model.answers is None:
        raise ConfigError(f"gate: the report has no answers of '{TRAINED_MODEL}'; it has {_names(report)}")
    rules = [_beats(config, report, opponent) for opponent in config.beats]
    if config.reasoning_pays != "off":
        rules.append(_reasoning_pays(config, report))
    if config.off_policy == "require" or (config.off_policy == "report" and report.off_policy):
        rules.append(_off_policy(config, report))
    if config.refuse_worse_slices:
        rules.append(_no_worse_slice(config, report))
    valid, name = model.answers.valid_share, f"valid answers at least {config.min_valid_share:.0%}"
    rules.append(Rule(name=name, figure=f"{valid:.1%}", passed=valid >= config.min_valid_share))
    if config.refuse_alarms:
        alarms = [alarm for alarm in report.alarms if alarm.model == TRAINED_MODEL]
        figure = "; ".join(f"{alarm.name} {alarm.value:.3g} (bound {alarm.bound:.3g})" for alarm in alarms)
        rules.append(Rule(name="no health alarm", figure=figure or "none", passed=not alarms))
    if config.dry_run:
        rules.append(Rule(name="not a dry run", figure="gate.dry_run is set", passed=False))
    return Decision(rules=tuple(rules))


def _beats(config: GateConfig, report: EvaluationReport, selector: str) -> Rule:
    title, opponent = _opponent(config, report, selector)
    bound = f"{config.min_gain:+.4f}" if config.min_gain else "zero"
    what = "the whole interval" if config.significant else "the mean"
    name = f"beats {title} on {TITLES[config.metric]}, {what} above {bound}"
    if opponent is None:
        return Rule(name=name, figure="there is none yet", passed=True)
    found = report.difference(TRAINED_MODEL, opponent.name, config.metric)
    if found is None:
        raise ConfigError(
            f"gate.beats: the report does not compare '{TRAINED_MODEL}' with '{opponent.name}' on "
            f"{config.metric}; a model is compared with those evaluated before it: {_names(report)}"
        )
    decisive = found.low if config.significant else found.mean
    return Rule(name=name, figure=str(found), passed=decisive > config.min_gain)


def _reasoning_pays(config: GateConfig, report: EvaluationReport) -> Rule:
    found, required = (
        report.difference(TRAINED_MODEL, SCORED_MODEL, config.metric),
        config.reasoning_pays == "require",
    )
    if found is None and required:
        raise ConfigError(
            f"gate.reasoning_pays: the report has no '{SCORED_MODEL}'; set evaluate.scored to true and "
            "sft.answers to generate, or gate.reasoning_pays to off"
        )
    what = "reasoning pays on {}" if required else "gain of reasoning on {} (reported only)"
    name = what.format(TITLES[config.metric])
    if found is None:
        return Rule(name=name, figure="not measured", passed=True)
    return Rule(name=name, figure=str(found), passed=found.low > 0 or not required)


def _off_policy(config: GateConfig, report: EvaluationReport) -> Rule:
    required = config.off_policy == "require"
    if not report.off_policy:
        raise ConfigError(
            "gate.off_policy: no exposures with propensities; bring this column, or set it to report"
        )
    name = f"off-policy engagement {'above' if required else 'beside'} that of the shown lists"
    name += "" if required else " (reported only)"
    shown = report.off_policy[0]
    found = next((one for one in report.off_policy if one.name == TRAINED_MODEL), None)
    if found is None:
        return Rule(name=name, figure="agrees with no shown slot", passed=not required)
    figure = f"{found} against {shown.engagement:.4f}, {found.effective_slots:.0f} effective slots"
    enough = found.effective_slots >= config.min_effective_slots
    return Rule(name=name, figure=figure, passed=(found.low > shown.engagement and enough) or not required)


def _no_worse_slice(config: GateConfig, report: EvaluationReport) -> Rule:
    opponents = {
        found.name for _, found in (_opponent(config, report, name) for name in config.beats) if found
    }
    compared = [
        (part, found)
        for part in report.slices
        for found in part.differences
        if (found.model, found.baseline in opponents) == (TRAINED_MODEL, True)
    ]
    # The least p-value that so many resamples can give, corrected for the number of slices.
    needed = math.ceil(2 * len(report.slices) / config.slice_level) - 1
    if compared and report.sample.bootstrap_samples < needed:
        raise ConfigError(
            f"evaluate.bootstrap_samples: {report.sample.bootstrap_samples} can show no worse slice among "
            f"{len(report.slices)} at gate.slice_level {config.slice_level:g}; set {needed} at least"
        )
    worse = [
        f"{part.name} ({part.users} users) {found} against {found.baseline}"
        for part, found in compared
        if found.mean < 0 and found.p_holm <= config.slice_level
    ]
    name = f"on no part of the users worse than an opponent on NDCG@10 (p at most {config.slice_level:g})"
    return Rule(name=name, figure="; ".join(worse) or "none", passed=not worse)


def _opponent(config: GateConfig, report: EvaluationReport, selector: str) -> tuple[str, Comparator | None]:
    """Return the opponent's title and comparator; None for a champion that does not exist yet."""
    opponent = report.comparator(selector)
    if selector == "best_conventional":
        opponent = report.best_conventional(config.metric)
        return f"the best conventional model ({opponent.name})", opponent
    if selector == CHAMPION:
        return "the champion", opponent
    if opponent is None:
        present = f"best_conventional, champion, {_names(report)}"
        raise ConfigError(f"gate.beats: '{selector}' is not in the report; it has {present}")
    return selector, opponent


def _names(report: EvaluationReport) -> str:
    return ", ".join(comparator.name for comparator in report.comparators)
