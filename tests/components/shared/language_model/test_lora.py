"""What learns: all weights, the topmost layers, or adapters that leave a plain model behind."""

from pathlib import Path

import pytest
import torch

from components.shared.errors import ConfigError
from components.shared.language_model import lora
from components.shared.language_model.load import load
from components.shared.language_model.lora import LoraConfig

IDS = torch.arange(30).reshape(2, 15)
ADAPTERS = LoraConfig(rank=4)


@pytest.fixture
def model(tiny_model_folder: Path):
    return load(tiny_model_folder, "float32").model


def learning(model) -> set[str]:
    return {name for name, weights in model.named_parameters() if weights.requires_grad}


def test_everything_learns(model) -> None:
    chosen = lora.set_trainable(model, 0, LoraConfig())
    assert chosen is lora.merge_adapters(chosen) is model
    assert len(learning(chosen)) == len(list(model.parameters()))


def test_only_the_top_layers_learn(model) -> None:
    names = learning(lora.set_trainable(model, 1, LoraConfig()))
    assert names and all(".layers.1." in name or name == "model.norm.weight" for name in names)


@pytest.mark.parametrize(("layers", "seen"), [(0, {"0", "1"}), (1, {"1"})])
def test_adapters_alone_learn_in_the_layers_that_shall(model, layers: int, seen: set[str]) -> None:
    names = learning(lora.set_trainable(model, layers, ADAPTERS))
    assert all(".lora_" in name and ".layers." in name for name in names)
    assert {name.split(".layers.")[1][0] for name in names} == seen


@torch.no_grad()
def test_a_merged_model_is_plain_and_computes_the_same(model) -> None:
    before = model(IDS).logits
    adapted = lora.set_trainable(model, 0, ADAPTERS)
    assert torch.equal(adapted(IDS).logits, before), "new adapters change nothing"
    for name, weights in adapted.named_parameters():
        if name in learning(adapted):
            torch.nn.init.normal_(weights, std=0.1)
    plain = lora.merge_adapters(adapted)
    assert type(plain) is type(load(Path(model.config.name_or_path), "float32").model)
    assert not torch.allclose(plain(IDS).logits, before, atol=1e-2)
    torch.testing.assert_close(plain(IDS).logits, adapted(IDS).logits)
    for theirs, ours in zip(plain.parameters(), lora.merged_parameters(adapted), strict=True):
        torch.testing.assert_close(ours, theirs)
    with adapted.disable_adapter():
        assert torch.equal(adapted(IDS).logits, before)


def test_what_is_not_there_is_refused(model) -> None:
    with pytest.raises(ConfigError, match="train_layers is 9, but the model has 2 layers"):
        lora.set_trainable(model, 9, LoraConfig())
    with pytest.raises(ConfigError, match=r"no linear layer 'nowhere'; there is down_proj, "):
        lora.set_trainable(model, 0, LoraConfig(rank=2, targets=("q_proj", "nowhere")))
    with pytest.raises(ValueError, match=r"rank\s+Input should be greater than or equal to 0"):
        LoraConfig(rank=-1)
