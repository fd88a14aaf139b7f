"""Every rule of the gate, passing and failing."""

import dataclasses
import logging
from pathlib import Path

import pytest

from components.evaluate.config import EvaluateConfig, GateConfig, HealthConfig
from components.evaluate.gate import decide, run
from components.evaluate.health import alarms
from components.shared.config import from_mapping
from components.shared.errors import ConfigError, DataError
from data_contracts.evaluation import Alarm, Difference, EvaluationReport, OffPolicy, Slice


def change_difference(report: EvaluationReport, baseline: str, **values: float) -> EvaluationReport:
    changed = tuple(
        dataclasses.replace(difference, **values) if difference.baseline == baseline else difference
        for difference in report.differences
    )
    return dataclasses.replace(report, differences=changed)


def test_a_dry_run_is_judged_and_lets_nothing_pass(make_report) -> None:
    decision = decide(GateConfig(beats=("base",), dry_run=True), make_report())
    assert not decision.passed
    assert [rule.name for rule in decision.rules if not rule.passed] == ["not a dry run"]


def test_a_clearly_better_model_passes(make_report) -> None:
    decision = decide(GateConfig(), make_report())
    assert decision.passed
    assert [rule.figure for rule in decision.rules] == [
        "+0.0500 [+0.0100, +0.0900]",  # against SASRec, the better of the two conventional ones
        "there is none yet",  # no champion
        "not measured",  # without reasoning
        "none",  # slice where it is worse
        "100.0%",
        "none",
    ]


def test_the_order_shown_online_is_an_opponent_only_where_a_rule_names_it(make_report) -> None:
    report = make_report()
    online = dataclasses.replace(report.comparators[1], name="online", kind="online")
    online = dataclasses.replace(online, metrics=online.metrics | {"ndcg@10": 0.9})
    lost = Difference(
        model="grpo", baseline="online", metric="ndcg@10", mean=-0.7, low=-0.8, high=-0.6, p_holm=0.5
    )
    comparators, differences = (online, *report.comparators), (lost, *report.differences)
    report = dataclasses.replace(report, comparators=comparators, differences=differences)
    assert decide(GateConfig(), report).passed
    assert not decide(GateConfig(beats=("online",)), report).passed


@pytest.mark.parametrize(
    ("pays", "low", "passed"),
    [("off", -0.1, True), ("report", -0.1, True), ("require", -0.1, False), ("require", 0.01, True)],
)
def test_reasoning_must_pay_where_that_is_required(make_report, pays, low, passed):
    gain = Difference(
        model="grpo", baseline="grpo_scored", metric="ndcg@10", mean=0.05, low=low, high=0.1, p_holm=0.5
    )
    report = make_report()
    report = dataclasses.replace(report, differences=(gain, *report.differences))
    decision = decide(GateConfig(reasoning_pays=pays), report)
    assert decision.passed is passed
    assert any("reasoning" in rule.name for rule in decision.rules) is (pays != "off")


def test_reasoning_that_was_not_measured_cannot_be_required(make_report):
    with pytest.raises(ConfigError, match=r"evaluate\.scored"):
        decide(GateConfig(reasoning_pays="require"), make_report())


@pytest.mark.parametrize(
    ("baseline", "mean", "p", "passed"),
    [
        pytest.param("sasrec", -0.02, 0.04, False, id="worse than the best conventional model"),
        pytest.param("sasrec", -0.02, 0.06, True, id="perhaps by chance"),
        pytest.param("sasrec", 0.02, 0.01, True, id="better"),
        pytest.param("popularity", -0.02, 0.01, True, id="worse than one that is no opponent"),
    ],
)
def test_a_model_that_is_worse_on_a_part_of_the_users_is_refused(make_report, baseline, mean, p, passed):
    lost = Difference(
        model="grpo", baseline=baseline, metric="ndcg@10", mean=mean, low=-0.03, high=0.03, p_holm=p
    )
    part = Slice(name="new items", rule="r", users=50, ndcg_at_10={}, differences=(lost,))
    report = make_report(slices=(part,))
    assert decide(GateConfig(), report).passed is passed
    assert decide(GateConfig(refuse_worse_slices=False), report).passed
    if not passed:
        rule = next(rule for rule in decide(GateConfig(), report).rules if not rule.passed)
        assert rule.figure == "new items (50 users) -0.0200 [-0.0300, +0.0300] against sasrec"


def test_too_few_resamples_to_find_a_worse_slice_are_told(make_report):
    """Of six slices the least p-value of 200 resamples is 6 x 2 / 201 > 0.05."""
    found = Difference(
        model="grpo", baseline="sasrec", metric="ndcg@10", mean=-0.1, low=-0.2, high=-0.05, p_holm=0.0597
    )
    part = Slice(name="new items", rule="r", users=50, ndcg_at_10={}, differences=(found,))
    report = make_report(slices=(part,) * 6)
    few, enough = (
        dataclasses.replace(report, sample=dataclasses.replace(report.sample, bootstrap_samples=count))
        for count in (200, 239)
    )
    with pytest.raises(ConfigError, match=r"bootstrap_samples: 200 .* among 6 .* set 239 at least"):
        decide(GateConfig(), few)
    assert decide(GateConfig(refuse_worse_slices=False), few).passed
    assert decide(GateConfig(), enough).passed


@pytest.mark.parametrize(
    ("low", "significant", "passed"),
    [
        pytest.param(0.001, True, True, id="interval above zero"),
        pytest.param(0.0, True, False, id="interval touches zero"),
        pytest.param(-0.01, True, False, id="interval holds zero"),
        pytest.param(-0.01, False, True, id="the mean is enough"),
    ],
)
def test_beating_needs_the_interval_unless_told_otherwise(make_report, low, significant, passed) -> None:
    report = change_difference(make_report(), "sasrec", low=low)
    assert decide(GateConfig(significant=significant), report).passed is passed


def test_a_worse_mean_never_passes(make_report) -> None:
    report = change_difference(make_report(), "sasrec", mean=-0.01, low=-0.05, high=0.03)
    assert not decide(GateConfig(significant=False), report).passed


def test_the_gain_must_exceed_its_bound(make_report) -> None:
    assert decide(GateConfig(min_gain=0.009), make_report()).passed
    assert not decide(GateConfig(min_gain=0.01), make_report()).passed


def test_the_champion_must_be_beaten_once_there_is_one(make_report) -> None:
    report = make_report()
    champion = dataclasses.replace(report.comparators[2], name="champion", kind="champion")
    lost = Difference(
        model="grpo", baseline="champion", metric="ndcg@10", mean=-0.01, low=-0.03, high=0.01, p_holm=0.5
    )
    report = dataclasses.replace(
        report, comparators=(*report.comparators, champion), differences=(*report.differences, lost)
    )
    failed = [rule.name for rule in decide(GateConfig(), report).rules if not rule.passed]
    assert failed == ["beats the champion on NDCG@10, the whole interval above zero"]


def test_invalid_answers_fail(make_report) -> None:
    report = make_report()
    grpo = report.comparators[-1]
    poor = dataclasses.replace(grpo, answers=dataclasses.replace(grpo.answers, valid_share=0.94))
    report = dataclasses.replace(report, comparators=(*report.comparators[:-1], poor))
    assert not decide(GateConfig(), report).passed
    assert decide(GateConfig(min_valid_share=0.94), report).passed


def test_alarms_of_the_judged_model_fail(make_report) -> None:
    alarm = Alarm(name="truncated_answers", model="grpo", value=0.2, bound=0.05, remedy="more tokens")
    report = make_report(alarms=(alarm,))
    assert not decide(GateConfig(), report).passed
    assert decide(GateConfig(refuse_alarms=False), report).passed
    others = make_report(alarms=(dataclasses.replace(alarm, model="sft"),))
    assert decide(GateConfig(), others).passed


def test_a_rule_about_a_stranger_is_a_mistake_of_the_profile(make_report) -> None:
    with pytest.raises(ConfigError, match=r"gate\.beats: 'bert' is not in the report"):
        decide(GateConfig(beats=("bert",)), make_report())
    with pytest.raises(ConfigError, match="does not compare 'grpo' with 'sasrec'"):
        decide(GateConfig(), dataclasses.replace(make_report(), differences=()))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The report of the gate, and what the gate writes."""
    return {name: tmp_path / name for name in ("report", "html", "summary")}


def test_page_and_summary_of_the_gate_show_every_rule(make_report, files) -> None:
    files["report"].write_text(make_report().to_json())
    decided = run(GateConfig(beats=("base",)), **files)
    page, summary = files["html"].read_text(), files["summary"].read_text()
    assert "grpo passed the gate" in page and summary.startswith("**grpo passed the gate")
    assert "| **0.2000** |" in summary
    for rule in decided.rules:
        assert f"<td>{rule.name}</td><td>{rule.figure}</td>" in page
        assert f"\n| {rule.name} | {rule.figure} | pass |\n" in summary


def test_a_failed_gate_ends_well_and_says_why(make_report, files, caplog) -> None:
    report = change_difference(make_report(), "sasrec", low=-0.01)
    files["report"].write_text(report.to_json())
    with caplog.at_level(logging.INFO, logger="recllm"):
        assert not run(GateConfig(), **files).passed
    for name in ("html", "summary"):
        assert "grpo is not registered" in files[name].read_text()
    assert "FAIL: beats the best conventional model (sasrec)" in caplog.text


def test_a_gate_without_a_report_says_so(files) -> None:
    with pytest.raises(DataError, match=r"report: cannot be read"):
        run(GateConfig(), **files)


@pytest.mark.parametrize(
    ("share", "value", "users", "names"),
    [
        pytest.param("valid_share", 0.89, 100, ["low_validity"], id="invalid"),
        pytest.param("valid_share", 0.90, 100, [], id="just valid enough"),
        pytest.param("truncated_share", 0.06, 100, ["truncated_answers"], id="cut off"),
        pytest.param("constant_share", 0.51, 100, ["constant_answers"], id="everybody gets the same"),
        pytest.param("constant_share", 0.51, 19, [], id="too few users to tell"),
    ],
)
def test_alarms_have_bounds(make_report, share, value, users, names) -> None:
    grpo = make_report().comparators[-1]
    grpo = dataclasses.replace(grpo, answers=dataclasses.replace(grpo.answers, **{share: value}))
    found = alarms(HealthConfig(), [grpo], [], users)
    assert [alarm.name for alarm in found] == names
    assert all(alarm.value == value for alarm in found)


@pytest.mark.parametrize(
    ("share", "probes", "names"),
    [(0.95, 10, ["superficial_reasoning"]), (0.9, 10, []), (0.95, 9, []), (None, 0, [])],
)
def test_reasoning_that_changes_nothing_is_an_alarm(make_report, share, probes, names) -> None:
    grpo = make_report().comparators[-1]
    probed = {"reasoning_ignored_share": share, "reasoning_probes": probes}
    grpo = dataclasses.replace(grpo, answers=dataclasses.replace(grpo.answers, **probed))
    assert [alarm.name for alarm in alarms(HealthConfig(), [grpo], [], 100)] == names


def test_grpo_below_sft_is_an_alarm() -> None:
    lost = Difference(
        model="grpo", baseline="sft", metric="ndcg@10", mean=-0.05, low=-0.08, high=-0.02, p_holm=0.5
    )
    assert [alarm.name for alarm in alarms(HealthConfig(), [], [lost], 100)] == ["worse_than_sft"]
    tied = dataclasses.replace(lost, high=0.01)
    assert alarms(HealthConfig(), [], [tied], 100) == []


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (EvaluateConfig, {"max_users": -1}, "max_users: must be at least 0, got -1"),
        (EvaluateConfig, {"batch_size": 0}, "batch_size: must be above 0, got 0"),
        (EvaluateConfig, {"confidence": 1.0}, "confidence: must be below 1"),
        (EvaluateConfig, {"temperature": -0.5}, "temperature: must be at least 0"),
        (
            EvaluateConfig,
            {"temperature": 0.7},
            "temperature is 0.7, but constrained answers are decoded greedily",
        ),
        (HealthConfig, {"min_valid_share": 1.5}, "min_valid_share: must be at most 1"),
        (GateConfig, {"min_valid_share": -0.1}, "min_valid_share: must be at least 0"),
        (GateConfig, {"beats": ["grpo"]}, "the model that is judged"),
    ],
)
def test_nonsense_settings_are_refused(section, values, message) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(section, values, "profile")


def earned(name: str, low: float, slots: float = 500.0) -> OffPolicy:
    counts = {"effective_slots": slots, "matching_users": 90, "users": 99, "users_without_label": 0}
    return OffPolicy(name=name, engagement=low + 0.02, low=low, high=low + 0.04, **counts)


SHOWN = earned("as it was shown", 0.1)


@pytest.mark.parametrize(
    ("estimates", "mode", "passed", "figure"),
    [
        pytest.param((SHOWN,), "require", False, "no shown slot", id="no match"),
        pytest.param((SHOWN, earned("grpo", 0.2)), "require", True, "0.2200 [0.2000", id="better"),
        pytest.param((SHOWN, earned("grpo", 0.2, 9.0)), "require", False, "9 eff", id="too few"),
        pytest.param((SHOWN, earned("grpo", 0.05)), "report", True, "against 0.12", id="shown only"),
    ],
)
def test_the_off_policy_estimate_is_a_rule_on_request(make_report, estimates, mode, passed, figure) -> None:
    decision = decide(GateConfig(off_policy=mode), make_report(off_policy=estimates))
    (rule,) = [rule for rule in decision.rules if rule.name.startswith("off-policy")]
    assert rule.passed == passed and figure in rule.figure


def test_a_required_estimate_needs_propensities(make_report) -> None:
    with pytest.raises(ConfigError, match=r"gate\.off_policy: no exposures with propensities"):
        decide(GateConfig(off_policy="require"), make_report())
