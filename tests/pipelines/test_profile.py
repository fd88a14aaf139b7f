"""Profiles: those that come along are whole, and a mistake is named with file and key."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest

from components.grpo.config import RewardWeights
from components.shared.errors import ConfigError
from components.shared.prompting.settings import PromptSettings
from pipelines import lineage, profile


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_loads_and_serves_as_it_trained_and_judged(name: str) -> None:
    loaded = profile.load(name)
    for field in fields(PromptSettings):
        assert getattr(loaded.register.serving, field.name) == getattr(loaded.prompts, field.name)
    assert loaded.register.serving.max_new_tokens == loaded.evaluate.max_new_tokens


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("sft: {epoch: 2}", r"mine\.yaml\.sft: unknown key 'epoch'", id="unknown key"),
        pytest.param("stf: {}", r"mine\.yaml: unknown key 'stf'", id="unknown section"),
        pytest.param("sft: {learning_rate: 1e-5}", "YAML reads 1e-5 as text, write 1.0e-5", id="1e-5"),
        pytest.param(
            "grpo: {group_size: 1}", r"mine\.yaml\.grpo: group_size must be at least 2", id="bad value"
        ),
        pytest.param(
            "register: {serving: {title_chars: 30}}",
            r"register\.serving\.title_chars is 30 but prompts\.title_chars is 60; leave it out",
            id="serving unlike training",
        ),
        pytest.param("sft: [", r"mine\.yaml: not valid YAML", id="not YAML"),
        pytest.param(
            "sft: {}\ngrpo: {}\nsft: {}", r"mine\.yaml: not valid YAML \(key 'sft' twice", id="twice"
        ),
        pytest.param("sft: {learning_rate: .nan}", r"sft\.learning_rate: nan is not a finite", id="NaN"),
        pytest.param("- sft", r"mine\.yaml: expected a mapping", id="a list"),
    ],
)
def test_mistakes_name_the_file_and_the_key(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        profile.load(str(path))


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="profile 'gpu': neither one of h800, laptop, tiny nor a YAML file"):
        profile.load("gpu")


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
