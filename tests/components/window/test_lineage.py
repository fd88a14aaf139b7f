"""What a run is made from is named by contents, versions and commits."""

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from components.window import lineage
from components.window.config import ModelSource


def test_a_bundled_model_is_named_by_its_version_also_where_its_wheel_is_not_installed() -> None:
    assert lineage.of_model(ModelSource(source="bundled:other", version="9.9")) == "9.9"
    assert lineage.of_model(ModelSource(source="bundled:none")) == ""


def test_a_folder_is_named_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = lineage.of_model(ModelSource(source=str(tmp_path)))
    (tmp_path / "config.json").write_text("{ }")
    assert lineage.of_model(ModelSource(source=str(tmp_path))) not in (before, "")


def test_a_hub_id_is_named_by_its_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = ModelSource(source="owner/name", revision="v1")

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


def test_raw_data_are_named_by_their_contents_also_behind_a_link(data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "log"
    elsewhere.mkdir()
    (data / "events.csv").rename(elsewhere / "part-0.csv")
    (data / "events").symlink_to(elsewhere)
    before = lineage.of_data(str(data))
    assert lineage.of_data(str(data)) == before
    (elsewhere / "part-1.csv").write_text((elsewhere / "part-0.csv").read_text())
    assert lineage.of_data(str(data)) != before
