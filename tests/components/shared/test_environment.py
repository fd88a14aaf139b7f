import os

import pytest

from components.shared import environment


def test_variables_get_their_earlier_values_back_also_after_a_failure(monkeypatch):
    monkeypatch.setenv("SET", "before")
    monkeypatch.delenv("UNSET", raising=False)
    with pytest.raises(RuntimeError), environment.set_to({"SET": "within", "UNSET": "within"}):
        assert (os.environ["SET"], os.environ["UNSET"]) == ("within", "within")
        raise RuntimeError
    assert os.environ["SET"] == "before" and "UNSET" not in os.environ
