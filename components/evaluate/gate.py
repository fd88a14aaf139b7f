"""The gate: stated rules over one evaluation report. Pure; a failed gate is a result, not an error."""

from dataclasses import dataclass

from components.evaluate.config import CHALLENGER, GateConfig
from components.evaluate.summary import TITLES
from components.shared.errors import ConfigError
from data_contracts.evaluation import Comparator, Difference, EvaluationReport


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: what it asks, the figure that was found, and whether that passes."""

    name: str
    figure: str
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Every rule with its figure; the model passes if all of them do."""

    model: str
    rules: tuple[Rule, ...]

    @property
    def passed(self) -> bool:
        """Return whether every rule passed."""
        return all(rule.passed for rule in self.rules)


def decide(config: GateConfig, report: EvaluationReport) -> Decision:
    """Judge the trained model by every rule of `config`.

    Raises:
        ConfigError: the model (`CHALLENGER`) or an opponent is not in the report (a missing champion is no
            error: there is none before the first promotion).
    """
    model = report.comparator(CHALLENGER)
    if model is None:
        raise ConfigError(f"gate: '{CHALLENGER}' is not in the report; it has {_names(report)}")
    rules = [_beats(config, report, selector) for selector in config.beats]
    rules.append(_validity(config, model))
    if config.refuse_alarms:
        alarms = [one for one in report.alarms if one.model == CHALLENGER]
        figure = "; ".join(f"{one.name} {one.value:.3g} (bound {one.bound:.3g})" for one in alarms)
        rules.append(Rule(name="no health alarm", figure=figure or "none", passed=not alarms))
    if config.dry_run:
        rules.append(Rule(name="not a dry run", figure="gate.dry_run is set", passed=False))
    return Decision(model=CHALLENGER, rules=tuple(rules))


def to_markdown(decision: Decision, report: EvaluationReport) -> str:
    """Return the decision as the table that the Kubeflow UI shows."""
    verdict = "passes and may be registered" if decision.passed else "is not registered"
    rows = [
        f"| {_cell(rule.name)} | {_cell(rule.figure)} | {'pass' if rule.passed else '**fail**'} |"
        for rule in decision.rules
    ]
    sample = report.sample
    return "\n".join(
        [
            f"## Gate: {decision.model} {verdict}",
            "",
            "| rule | found | |",
            "|---|---|---|",
            *rows,
            "",
            f"{sample.users} users of the {sample.split} split; {sample.confidence:.0%} intervals from "
            f"{sample.bootstrap_samples} paired bootstrap samples.",
            "",
        ]
    )


def _beats(config: GateConfig, report: EvaluationReport, selector: str) -> Rule:
    opponent, title = _opponent(config, report, selector)
    bound = f"{config.min_gain:+.4f}" if config.min_gain else "zero"
    asked = f"the whole interval above {bound}" if config.significant else f"the mean above {bound}"
    name = f"beats {title} on {TITLES[config.metric]}, {asked}"
    if opponent is None:
        return Rule(name=name, figure="there is none yet", passed=True)
    difference = report.difference(CHALLENGER, opponent.name, config.metric)
    if difference is None:
        raise ConfigError(
            f"gate.beats: the report does not compare '{CHALLENGER}' with '{opponent.name}' on "
            f"{config.metric}; a model is compared with those evaluated before it: {_names(report)}"
        )
    decisive = difference.low if config.significant else difference.mean
    return Rule(name=name, figure=_figure(difference), passed=decisive > config.min_gain)


def _opponent(config: GateConfig, report: EvaluationReport, selector: str) -> tuple[Comparator | None, str]:
    if selector == "best_conventional":
        best = report.best_conventional(config.metric)
        return best, f"the best conventional model ({best.name})" if best else "the best conventional model"
    if selector == "champion":
        return report.comparator("champion"), "the champion"
    found = report.comparator(selector)
    if found is None:
        raise ConfigError(
            f"gate.beats: '{selector}' is not in the report; it has best_conventional, champion, "
            f"{_names(report)}"
        )
    return found, selector


def _validity(config: GateConfig, model: Comparator) -> Rule:
    name = f"valid answers at least {config.min_valid_share:.0%}"
    if model.answers is None:
        return Rule(name=name, figure="no answers to parse", passed=True)
    share = model.answers.valid_share
    return Rule(name=name, figure=f"{share:.1%}", passed=share >= config.min_valid_share)


def _figure(difference: Difference) -> str:
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"


def _names(report: EvaluationReport) -> str:
    return ", ".join(one.name for one in report.comparators)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
