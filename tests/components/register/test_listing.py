"""The list of versions, the history and the model card."""

from pathlib import Path

import pytest

from components.register.card import LONGEST, model_card
from components.register.config import RegisterConfig
from components.register.job import run
from components.register.listing import history, list_versions
from components.register.promote import promote
from components.shared.errors import ConfigError
from components.shared.prompting.settings import ServingConfig
from components.shared.tracking.mlflow_client import connect
from data_contracts.evaluation import Alarm, Difference, Slice

MODEL = "recllm-r1"


def test_versions_with_their_figures_and_the_history(
    tracking_uri, tiny_model_folder, served_folder, make_report, tmp_path: Path
):
    config = RegisterConfig(tracking_uri=tracking_uri, serving=ServingConfig(max_new_tokens=4))
    for key in ("night-1", "night-2"):
        (tmp_path / "report.json").write_text(make_report(lineage={"run_key": key}).to_json())
        (tmp_path / "users").touch()
        files = {
            "report": tmp_path / "report.json",
            "users": tmp_path / "users",
            "html": tmp_path / "page.html",
        }
        run(config, model=tiny_model_folder, served=served_folder, **files)
    connect(tracking_uri).create_model_version(MODEL, "file:///elsewhere")
    connect(tracking_uri).create_model_version(MODEL, "file:///gone", run_id="0" * 32)  # `mlflow gc` took it
    promote(tracking_uri, MODEL, "1")
    found = list_versions(tracking_uri, MODEL)
    assert [(one.version, one.aliases, one.ndcg_at_10, one.run_key) for one in found] == [
        ("4", "", "", ""),
        ("3", "", "", ""),
        ("2", "challenger", "0.2000 [0.1800, 0.2200]", "night-2"),
        ("1", "champion", "0.2000 [0.1800, 0.2200]", "night-1"),
    ]
    assert found[0].registered.endswith("Z")
    assert [(change.action, change.version) for change in history(tracking_uri, MODEL)] == [("promote", "1")]


@pytest.mark.parametrize("command", [list_versions, history])
def test_a_model_that_is_not_there_is_named(tracking_uri, command):
    with pytest.raises(ConfigError, match="no registered model 'other'"):
        command(tracking_uri, "other")


def test_the_card_says_what_is_weak(make_report):
    lost = Difference(
        model="grpo", baseline="sasrec", metric="ndcg@10", mean=-0.02, low=-0.03, high=-0.01, p_holm=0.2
    )
    part = Slice(name="new items", rule="r", users=50, ndcg_at_10={}, differences=(lost,))
    alarm = Alarm(name="high_kl", model="grpo", value=0.7, bound=0.5, remedy="raise beta")
    card = model_card(
        make_report(slices=(part,), alarms=(alarm,), lineage={"run_key": "k", "base_model": "m"})
    )
    assert "| grpo | 0.2000 [0.1800, 0.2200] |" in card
    assert "- NDCG@10 against sasrec: +0.0500 [+0.0100, +0.0900]" in card
    assert "- base_model: `m`" in card
    assert "- new items (50 users, r): -0.0200 [-0.0300, -0.0100] against sasrec" in card
    assert "high_kl" in card
    assert "no part of the users" in model_card(make_report(lineage={"run_key": "k"}))


def test_a_card_fits_what_mlflow_keeps(make_report):
    alarm = Alarm(name="high_kl", model="grpo", value=0.7, bound=0.5, remedy="raise beta")
    report = make_report(alarms=(alarm,) * 400, lineage={"run_key": "k"})
    assert len(model_card(report)) == LONGEST
