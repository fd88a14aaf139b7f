"""Architectures, tried with random weights: which share a row, which do not, and which cannot be trained."""

from typing import Any

import pytest
import torch

from components.base_model import probe
from components.shared.errors import ModelError
from components.shared.language_model.load import LanguageModel, context_length
from components.shared.language_model.packing import PACKED, fits, sequence_log_probs, token_log_probs
from tests.components.base_model.conftest import make_model, make_tokenizer

LINEAR: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
HYBRID: dict[str, Any] = {
    "layer_types": ["mamba", "attention"],
    "num_local_experts": 0,
    "shared_intermediate_size": 64,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
}
LOCAL = {"num_layers": 2, "num_heads": 2, "window_size": 8, "attention_types": [[["global", "local"], 1]]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Threads cost these matrices more than they save."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def check(model: Any) -> float | None:
    return probe.check(LanguageModel(model, make_tokenizer()))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("mistral", {"sliding_window": 4096}),
        ("gemma3_text", {"sliding_window": 4096}),
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 2048}),
        ("mixtral", EXPERTS),
        ("starcoder2", {"sliding_window": 4096}),
    ],
)
def test_answers_share_a_row_where_attention_allows_it(kind: str, settings: dict[str, Any]) -> None:
    model = make_model(kind, **settings)
    assert check(model) is None
    found, _ = sequence_log_probs(model, [(PROMPT, ANSWERS), (list(range(50, 100)), [[21, 22]])])
    expected = torch.stack([row.sum() for row in single_rows(model)])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)  # padded beside a longer prompt


PLAIN = [
    pytest.param("gemma2", {"sliding_window": 4096}, id="eager attention"),
    pytest.param("gemma3_text", {"sliding_window": 8}, id="sliding gemma3"),
    pytest.param("gpt_oss", {"sliding_window": 8, **EXPERTS}, id="gpt_oss"),
    pytest.param("mistral", {"sliding_window": 8}, id="sliding mistral"),
    pytest.param("phi3", {"sliding_window": 8}, id="sliding phi3"),
    pytest.param("gpt_neo", LOCAL, id="local gpt_neo"),
    pytest.param("bloom", {"n_layer": 2, "n_head": 2}, id="no masks of four dimensions"),
]
PROMPT, ANSWERS = list(range(40, 55)), [[21, 22, 23], [31], [21, 42, 43, 44]]


def single_rows(model: Any) -> list[torch.Tensor]:
    rows = []
    for answer in ANSWERS:
        logits = model(input_ids=torch.tensor([PROMPT + answer]), use_cache=False).logits
        logits = logits[0, len(PROMPT) - 1 : -1].log_softmax(-1)
        rows.append(logits.gather(1, torch.tensor(answer)[:, None]).squeeze(1))
    return rows


@pytest.mark.parametrize(("kind", "settings"), PLAIN)
def test_where_they_cannot_each_is_read_alone_and_rightly(kind: str, settings: dict[str, Any]) -> None:
    model = make_model(kind, **settings)
    difference = check(model)
    assert difference is not None and difference > probe.TOLERANCE
    setattr(model.config, PACKED, False)
    weights = torch.tensor([0.3, -1.0, 2.0])
    ours, _ = token_log_probs(model, PROMPT, ANSWERS)
    theirs = single_rows(model)
    for row, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=0)
    (ours.sum(1) * weights).sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    sum(w * row.sum() for w, row in zip(weights, theirs, strict=True)).backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    for one, other in zip(gradients, found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_a_row_longer_than_the_window_is_not_packed_whatever_the_probe_found() -> None:
    model = make_model("mistral", sliding_window=16)
    assert fits(model, 16) and not fits(model, 17)
    ours, _ = token_log_probs(model, PROMPT, ANSWERS)
    for row, expected in zip(ours, single_rows(model), strict=True):
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        pytest.param("qwen3_5_text", LINEAR, id="qwen3.5"),
        pytest.param("mamba", {}, id="mamba"),
        pytest.param("mamba2", {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}, id="mamba2"),
        pytest.param("granitemoehybrid", HYBRID, id="granite hybrid"),
    ],
)
def test_what_cannot_be_sampled_from_is_refused_before_it_is_trained(kind: str, settings) -> None:
    with pytest.raises(ModelError, match=r"ForCausalLM cannot be trained here: .*attention layers alone"):
        check(make_model(kind, **settings))


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling"])
def test_longrope_is_read_up_to_its_original_context_within_which_its_frequencies_stay(key: str) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 512, **factors}
    model = make_model("phi3", original_max_position_embeddings=512, **{key: rope})
    assert check(model) is None
    assert context_length(model.config) == 512
    assert context_length(make_model("llama").config) == 2048


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_a_model_that_reads_later_tokens_is_refused(kind: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be trained here: .*use a causal model"):
        check(make_model(kind, initializer_range=0.2))


def test_a_model_whose_outputs_are_no_numbers_is_refused() -> None:
    model = make_model("llama")
    torch.nn.init.constant_(next(model.parameters()), torch.nan)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM cannot be trained here: .*no numbers"):
        check(model)
