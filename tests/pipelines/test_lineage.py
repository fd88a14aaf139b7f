"""What the compiled pipeline tells its first task."""

import sys

import pytest

from components.grpo.config import RewardWeights
from components.shared.errors import ConfigError
from components.window.config import GpuRequest
from pipelines import lineage, profile


def test_what_a_step_does_is_part_of_a_runs_settings_and_where_it_runs_is_not() -> None:
    before = lineage.window_config(profile.load("kind"), "kind").settings
    trained = profile.load("kind", {"sft": {"epochs": 2}})
    placed = profile.load("kind", {"placement": {"sft": {"cpu": "2"}}, "gate": {"min_valid_share": 0.5}})
    assert lineage.window_config(trained, "kind").settings != before
    assert lineage.window_config(placed, "kind").settings == before


def test_random_weights_are_not_called_by_the_name_of_a_model() -> None:
    named = {name: lineage.window_config(profile.load(name), name).lineage for name in ("tiny", "laptop")}
    assert named["tiny"]["base_model"] == (
        "random weights (2 layers of 32, seed 0) with the tokenizer of bundled:smollm2-135m"
    )
    assert named["laptop"]["base_model"] == "bundled:smollm2-135m"


def test_the_first_task_knows_all_that_has_to_be_there() -> None:
    hub = {"base_model": {"secrets": {"HF_TOKEN": "hub/token"}, "config_maps": {"HF_ENDPOINT": "hub/url"}}}
    wanted = lineage.preflight_config(profile.load("h800", {"placement": hub}))
    assert wanted.root == "s3://recllm/pipelines"
    assert wanted.volumes == ("/checkpoints",)
    assert set(wanted.secrets) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}
    assert wanted.config_maps == {"HF_ENDPOINT": "hub/url"}
    assert wanted.gpus == (
        GpuRequest(products=("NVIDIA-H800",), gpus=8),
        GpuRequest(products=("NVIDIA-L20", "NVIDIA-L40S"), gpus=1),
    )


def test_a_reward_term_of_ones_own_is_known_by_its_source(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    term = tmp_path / "lineage_own_term.py"
    term.write_text("def one(answer, row): return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    weights = RewardWeights(business={"ilad": 0.1, "lineage_own_term:one": 0.2})
    before = lineage.of_reward(weights)
    assert lineage.of_reward(RewardWeights(business={"ilad": 0.1})) == ""
    term.write_text("def one(answer, row): return 0.5\n")
    assert lineage.of_reward(weights) not in (before, "")
    with pytest.raises(ConfigError, match=r"'nowhere\.at_all:f' is neither"):
        lineage.of_reward(RewardWeights(business={"nowhere.at_all:f": 0.1}))


@pytest.mark.parametrize("term", ["lineage_own_package:one", "lineage_own_package.deep.term:one"])
def test_a_term_in_a_package_is_known_by_all_of_it(
    tmp_path, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    package = tmp_path / "lineage_own_package"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from .deep.term import one\n")
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "term.py").write_text("def one(answer, row): return 1.0\n")
    monkeypatch.chdir(tmp_path)  # where the steps look first
    before = lineage.of_reward(RewardWeights(business={term: 1.0}))
    (package / "deep" / "other.py").write_text("")
    assert lineage.of_reward(RewardWeights(business={term: 1.0})) != before
    assert str(tmp_path) not in sys.path
    for name in [name for name in sys.modules if name.startswith("lineage_own_package")]:
        del sys.modules[name]


def test_a_term_is_known_by_what_it_imports_as_well(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "lineage_helper" / "scale.py"  # without __init__.py
    helper.parent.mkdir()
    helper.write_text("FACTOR = 1.0\n")
    (tmp_path / "lineage_with_helper.py").write_text(
        "import numpy\n"
        "def one(answer, row):\n"
        "    from lineage_helper.scale import FACTOR\n"
        "    return FACTOR\n"
    )
    monkeypatch.chdir(tmp_path)
    weights = RewardWeights(business={"lineage_with_helper:one": 1.0})
    before = lineage.of_reward(weights)
    assert lineage.of_reward(weights) == before
    helper.write_text("FACTOR = -1.0\n")
    assert lineage.of_reward(weights) != before


def test_a_runs_key_knows_the_libraries_and_images_that_the_caches_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = profile.load("kind")
    before = lineage.window_config(loaded, "kind").settings
    monkeypatch.setattr(lineage, "git_commit", lambda: "another")
    of_another_image = lineage.window_config(loaded, "kind").settings
    monkeypatch.setattr(lineage.fingerprint, "of_step", lambda step: "with another version of torch")
    assert len({before, of_another_image, lineage.window_config(loaded, "kind").settings}) == 3
