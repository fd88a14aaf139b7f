"""Valid answers, mutated: never an error, and no term outside its range; seeded."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from components.grpo.config import RewardWeights
from components.grpo.rewards import BUSINESS, score
from components.shared.prompting.answer import final_ranking, parse
from components.shared.prompting.table import PromptRow
from tests.fuzz.seeded import SEEDED, mutated_text

ANSWER = "<think>Recent interest: tea. Recurring words: green.</think><answer>4, 2, 1</answer>"
JUNK = (
    *("<think>", "</think>", "<answer>", "</answer>", "<|im_end|>", "<answer>1</answer>", "<think></think>"),
    *(
        "0",
        "-1",
        "6",
        "4",
        "4, 4",
        "1.5",
        "9" * 7,
        "9" * 5000,
        "\u0663",
        "²",
        "\uff11",
        ",",
        ", ,",
        "\n",
        "\x00",
    ),
    *("\x00", "\ud800", "tea " * 400, "\u202e", "é", "😀", "\\", '"', "[1]", "1 2", "(" * 2000),
)
ROW = PromptRow(
    user_id="u",
    split="train",
    position=9,
    messages=[],
    titles=["A", "B", "C", "D", "E"],
    history=["F"],
    labels=[4, 2],
    candidates=["a", "b", "c", "d", "e"],
    scores=[0.5, 0.4, 0.3, 0.2, 0.1],
    tags=[["tea"], ["chess", ""], [], ["tea", "green"], ["go"]],
    novelty=[10.0, 5.0, 20.0, 8.0, 2.0],
    seen=[False, True, False, False, False],
    age_days=[400.0, 3.0, None, 0.0, 180.0],
    days_since_last=None,
    groups=[],
    label_items=["d", "b"],
    label_weights=[2.0, 0.5],
    answer_length=3,
    completion=None,
)
WEIGHTS = RewardWeights(business=dict.fromkeys(BUSINESS, 0.1))


@settings(SEEDED, max_examples=400)
@given(st.integers(0, 2**32))
def test_mutated_answers(seed):
    text = mutated_text(ANSWER, seed, JUNK)
    answer, ranked = parse(text), final_ranking(text, ROW.candidates)
    assert sorted(ranked) == ROW.candidates and parse(text) == answer
    if not answer.well_formed:
        assert ranked == ROW.candidates and (answer.numbers, answer.reasoning) == ((), "")
    if answer.is_valid(5, 3):
        assert ranked[:3] == [ROW.candidates[number - 1] for number in answer.numbers]
    terms = score(text, ROW, WEIGHTS, BUSINESS)
    reward = terms.pop("reward")
    assert math.isfinite(reward) and reward <= score(ANSWER, ROW, WEIGHTS, BUSINESS)["reward"] + 0.3
    assert all(0 <= value <= 1 for value in terms.values()), terms
