"""Valid profiles, mutated: each is parsed to what it says, or refused with file and key; seeded."""

import dataclasses
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.shared.errors import ConfigError
from pipelines import profile
from tests.fuzz.seeded import SEEDED, mutated_text, mutated_value

TOKENS = (
    *("2025-13-01", "2025-01-05", "0b", "1:99", "9" * 5000, "1e5", ".inf", ".nan", "~", "yes", "-1", "0"),
    *("!!timestamp x", "!!bool x", "!!int x", "!!float x", "!!set {a}", "!!omap [a: 1]", "!!binary x"),
    *("!!python/object:os.system x", "&a [*a]", "&a {b: *a}", "*a", "<<: 1", "<<: {a: 1}", "? [a]\n: b"),
    *("\t", "\x00", "\ufeff", "é", "\ud800", '"\\ud800"', "[", "]", "{", "}", ":", "- ", "|", "'", '"', "#"),
    *("[" * 3000, "{a: " * 2000, "=", "@", "%", "{1: 2}", "[null]", "''", "../../x", "s3://", "\n"),
)
VALUES = (None, True, -1, 0, 1.5, 10**30, float("nan"), "", "x", [], ["x"], [[]], {}, {"x": 1}, {"": None})


def parsed(text: str, path) -> profile.Profile | None:
    """Return the profile in `text`; None if it is refused, with the file's name."""
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        return profile.load(str(path))
    except ConfigError as error:
        assert str(error).startswith((str(path), "profile "))
        return None


@pytest.mark.parametrize("name", profile.names())
@settings(SEEDED, max_examples=40)
@given(st.integers(0, 2**32))
def test_mutated_texts(tmp_path_factory, name, seed):
    path = tmp_path_factory.mktemp("profiles") / "own.yaml"
    if found := parsed(mutated_text((profile.FOLDER / f"{name}.yaml").read_text(), seed, TOKENS), path):
        assert parsed(profile.to_yaml(found), path) == found


@pytest.mark.parametrize("name", profile.names())
@settings(SEEDED, max_examples=40)
@given(st.integers(0, 2**32))
def test_mutated_values(tmp_path_factory, name, seed):
    path = tmp_path_factory.mktemp("profiles") / "own.yaml"
    whole = json.loads(json.dumps(dataclasses.asdict(profile.load(name))))
    if found := parsed(yaml.safe_dump(mutated_value(whole, seed, VALUES), sort_keys=False), path):
        assert parsed(profile.to_yaml(found), path) == found
