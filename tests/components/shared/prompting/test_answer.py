"""Reading answers: no text raises, and no trick counts as well-formed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.prompting.answer import final_ranking, parse


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        pytest.param("<think>a</think><answer>3, 1,2</answer>", (3, 1, 2), id="plain"),
        pytest.param("\n<think>\na\n</think>\n<answer> 3 </answer>\n", (3,), id="white space"),
        pytest.param("<think></think><answer>1, 1, 99</answer>", (1, 1, 99), id="repeats and strangers stay"),
        pytest.param("<answer>3, 1</answer>", (), id="no reasoning block"),
        pytest.param("<think>a</think><answer>3, 1", (), id="unclosed"),
        pytest.param("<think>a</think><answer></answer>", (), id="empty"),
        pytest.param("<think>a<think>b</think></think><answer>1</answer>", (), id="nested"),
        pytest.param("<think>a</think><answer>1</answer><answer>2</answer>", (), id="two answers"),
        pytest.param("x<think>a</think><answer>1</answer>", (), id="text before"),
        pytest.param("<think>a</think><answer>\u0661, \u0662</answer>", (), id="Arabic digits"),
        pytest.param("<think>a</think><answer>1; 2</answer>", (), id="semicolons"),
        pytest.param("<think>a</think><answer>-1</answer>", (), id="negative"),
        pytest.param("<think>a</think><answer>1,\x1c2\x1f, 3</answer>", (1, 2, 3), id="separators of files"),
        pytest.param("<think>" + "</think><answer>" * 5000, (), id="tags over and over"),
        pytest.param("", (), id="empty text"),
        pytest.param(
            "<think>a</think><answer>" + "1, " * 4000 + "1</answer>", (1,) * 4001, id="10,000 characters"
        ),
    ],
)
def test_numbers(text: str, numbers: tuple[int, ...]) -> None:
    answer = parse(text)
    assert answer.numbers == numbers
    assert answer.well_formed == bool(numbers)


@given(st.text(alphabet="<>/thinkanswer0123456789, \n"))
def test_never_raises(text: str) -> None:
    answer = parse(text)
    assert answer.well_formed or not answer.numbers


@pytest.mark.parametrize(
    ("numbers", "valid"),
    [("1, 2, 3", True), ("3, 3, 1", False), ("1, 2", False), ("1, 2, 6", False), ("0, 1, 2", False)],
)
def test_valid_means_every_rule_is_kept(numbers: str, valid: bool) -> None:
    assert parse(f"<think>a</think><answer>{numbers}</answer>").is_valid(5, 3) == valid


def test_final_ranking_puts_the_rest_behind_in_the_old_order() -> None:
    assert final_ranking("<think>a</think><answer>3, 3, 9</answer>", ["a", "b", "c"]) == ["c", "a", "b"]
    assert final_ranking("no idea", ["a", "b", "c"]) == ["a", "b", "c"]
