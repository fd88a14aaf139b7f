import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from components.shared.artifacts import training_state
from components.shared.errors import OutputError

REST = {"step": 7, "losses": [1.0, 0.5]}


def trained(seed: int, width: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """A layer after a step of its optimiser."""
    torch.manual_seed(seed)
    layer = nn.Linear(4, width)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2, 4)).square().sum().backward()
    optimizer.step()
    return layer, optimizer


def save(file: Path, width: int = 3, rest: dict = REST) -> tuple[nn.Linear, torch.optim.Optimizer]:
    layer, optimizer = trained(0, width)
    training_state.save(file, layer.state_dict(), optimizer, rest)
    return layer, optimizer


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_taken_up_is_what_was_saved(tmp_path: Path) -> None:
    first, first_optimizer = save(tmp_path / "state.pt")
    second, optimizer = trained(seed=1)
    rest = training_state.resume(tmp_path / "state.pt", second.state_dict(), optimizer, REST)
    assert rest == REST
    assert same(first.state_dict(), second.state_dict())
    moments, expected = (one.state_dict()["state"] for one in (optimizer, first_optimizer))
    assert all(same(moments[place], expected[place]) for place in expected)


def blank(file: Path) -> None:
    """Zero a piece in the middle, as a disk that lost power leaves it."""
    whole = bytearray(file.read_bytes())
    middle = whole.index(torch.tensor(1.0).numpy().tobytes(), len(whole) // 3)
    whole[middle : middle + 4] = bytes(4)
    file.write_bytes(whole)


DAMAGES = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "cut by a few bytes": lambda file: file.write_bytes(file.read_bytes()[:-100]),
    "cut to a third": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 3]),
    "blank in the middle": blank,
    "foreign": lambda file: torch.save({"a": 1}, file),
    "other shapes": lambda file: save(file, width=5),
    "of another training": lambda file: save(file, rest={}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_nothing_is_changed_where_nothing_can_be_taken_up(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "state.pt"
    save(file)
    DAMAGES[damage](file)
    layer, optimizer = trained(seed=1)
    before = copy.deepcopy((layer.state_dict(), optimizer.state_dict()["state"][0]))
    assert training_state.resume(file, layer.state_dict(), optimizer, REST) is None
    assert same(layer.state_dict(), before[0])
    assert same(optimizer.state_dict()["state"][0], before[1])
    assert ("cannot be used" in caplog.text) == (damage != "missing")


def test_a_full_disk_is_told_and_the_state_before_stays(small_disk: Path) -> None:
    file = small_disk / "state.pt"
    save(file)
    before = file.read_bytes()
    large = {"x": torch.zeros(100_000)}
    with pytest.raises(OutputError, match=r"state\.pt is not written: a disk is full"):
        training_state.save(file, large, trained(0)[1], {})
    assert file.read_bytes() == before
    assert [path.name for path in small_disk.iterdir()] == ["state.pt"]
