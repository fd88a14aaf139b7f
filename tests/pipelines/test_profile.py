"""Profiles: those that come along are whole, and a mistake is named with file and key."""

import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from components.shared.errors import ConfigError
from components.shared.prompting.settings import PromptSettings
from pipelines import profile


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_loads_and_serves_as_it_trained_and_judged(name: str) -> None:
    loaded = profile.load(name)
    serving = loaded.registration.serving
    for field in fields(PromptSettings):
        assert getattr(serving, field.name) == getattr(loaded.prompts, field.name)
    assert serving.max_new_tokens == loaded.evaluate.max_new_tokens


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
            r"mine\.yaml\.register: unknown key 'serving'",
            id="serving unlike training",
        ),
        pytest.param("sft: [", r"mine\.yaml: not valid YAML", id="not YAML"),
        pytest.param(
            "sft: {}\ngrpo: {}\nsft: {}", r"mine\.yaml: not valid YAML \(key 'sft' twice", id="twice"
        ),
        pytest.param("sft: {learning_rate: .nan}", r"sft\.learning_rate: nan is not a finite", id="NaN"),
        pytest.param(
            "register: {model_name: a/b}", r"register\.model_name: must not .*, got 'a/b'$", id="name"
        ),
        pytest.param(
            "retrieve: {models: [x]}", r"^\S*mine\.yaml\.retrieve\.models\[0\]: 'x' is not .*$", id="model"
        ),
        pytest.param("retrieve: {seed: -1}", r"retrieve\.seed: must be at least 0, got -1", id="seed"),
        pytest.param("- sft", r"mine\.yaml: expected a mapping", id="a list"),
        pytest.param(
            "sft: {answers: label_logits}\nretrieve: {candidates_from: directed + online}",
            r"mine\.yaml: sft\.answers: 'label_logits' weighs the retriever's scores",
            id="scores that no request has",
        ),
        pytest.param(
            "sft: {answers: title_likelihood}\ngate: {reasoning_pays: require}",
            r"mine\.yaml: gate\.reasoning_pays: require compares generated answers",
            id="no reasoning to pay",
        ),
        pytest.param(
            "gate: {beats: [bsarec]}",
            r"mine\.yaml: gate\.beats: 'bsarec' is not one of base, best_conventional, candidates",
            id="an opponent that is not trained",
        ),
        pytest.param(
            "prompts: {target: teacher}",
            r"mine\.yaml: prompts\.target: 'teacher' and retrieve\.blend\.learner: 'logit'; a teacher needs",
            id="nobody to teach",
        ),
        pytest.param(
            "retrieve: {candidates_from: blend, blend: {learner: teacher}}",
            r"mine\.yaml: prompts\.target: 'labels' and retrieve\.blend\.learner: 'teacher'",
            id="nobody to be taught",
        ),
    ],
)
def test_mistakes_name_the_file_and_the_key(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        profile.load(str(path))


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="profile 'gpu': neither one of h800, kind, laptop, tiny nor a YAML file"
    ):
        profile.load("gpu")


@pytest.mark.parametrize("name", profile.names())
def test_a_shown_profile_loads_back(name: str, tmp_path: Path) -> None:
    loaded = profile.load(name)
    (tmp_path / "shown.yaml").write_text(profile.to_yaml(loaded))
    assert profile.load(str(tmp_path / "shown.yaml")) == loaded


def keys(section: Any) -> list[str]:
    """Return the names of all keys in their order, sections before their keys."""
    found = []
    for field in fields(section):
        value = getattr(section, field.name)
        found += [field.name, *(keys(value) if is_dataclass(value) else [])]
    return found


def test_every_key_is_shown_below_its_help() -> None:
    shown = profile.to_yaml(profile.load("tiny")).splitlines()
    named = [
        (n, match[1])
        for n, line in enumerate(shown)
        if (match := re.match(r"[ #]*([a-z_]+[0-9a-z_]*):( |$)", line))
    ]
    assert [name for _, name in named] == keys(profile.load("tiny"))
    for number, name in named:
        help_line = shown[number - 1].strip()
        text = help_line.removeprefix("# ").partition("Default:")[0]
        assert len(text) >= 5 and help_line.startswith("# "), f"{name} has no help"


def test_a_key_shows_its_default_and_a_choice_its_options() -> None:
    shown = profile.to_yaml(profile.load("tiny"))
    assert "# Users. Default: 1200\n  users: 120\n" in shown
    assert "One of leave_one_out, temporal. Default: leave_one_out\n  split: leave_one_out\n" in shown


def test_a_profile_is_read_where_no_client_of_kubeflow_is_installed() -> None:
    """`recllm recommend` runs in the trainer image, too."""
    program = "import sys; sys.modules['kfp'] = None; from pipelines.profile import load; load('h800')"
    subprocess.run([sys.executable, "-c", program], check=True)
