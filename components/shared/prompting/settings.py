"""What a prompt shows and how long it may be: the same for training, evaluation and serving."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from components.shared.config import Dtype, strict

Target = Literal["labels", "cues", "teacher"]
ItemFact = Literal["brand", "tags", "description", "users", "actions", "last", "together"]


@strict
class PromptSettings:
    """Settings of the prompt's text."""

    max_history: NonNegativeInt = 12
    """Items of the short-term history, the latest."""
    history_days: NonNegativeInt = 0
    """Days that the short-term history reaches back; 0 = no limit."""
    interests: NonNegativeInt = 5
    """Topics listed from the long-term history."""
    max_prompt_tokens: PositiveInt = 768
    """Tokens of the rendered chat; the oldest history is cut until it fits."""
    title_chars: PositiveInt = 60
    """Characters of a title; a longer one is cut at a word."""
    answer_length: PositiveInt = 10
    """Candidates that the answer must name."""
    with_profile: bool = True
    """Show the user's profile."""
    with_interests: bool = True
    """Show the long-term interests."""
    activity_days: tuple[PositiveInt, ...] = ()
    """Windows in days, one line each: the `interests` most frequent topics with the counts of each action."""
    item_facts: tuple[ItemFact, ...] = ()
    """What candidates show beside topic and title: "brand" (history too), "tags" (and categories),
    "description"; and of the train part before the request's day "users" (who met it in 90 days), "actions"
    (how often each was taken in 90 days), "last" (days since somebody met it), "together" (how often it stood
    within three items of the history's latest)."""
    description_chars: PositiveInt = 120
    """Characters of a description."""
    natural_language: bool = True
    """Show titles, topics and times; without, items appear as their ids."""


@strict
class ServingConfig(PromptSettings):
    """How the registered model prompts and answers; `mlflow.pyfunc.load_model` can change it."""

    answer: Literal["reasoned", "scored"] = "reasoned"
    """Answers: "reasoned" (generated, with reasons) or "scored" (likelihoods of the candidates' numbers); a
    model with another `sft.answers` than "generate" ranks by its scores either way."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What generates answers: "vllm" uses every GPU, and only the trainer image has it."""
    max_new_tokens: PositiveInt = 128
    """Maximum tokens per answer."""
    batch_size: PositiveInt = 16
    """Requests that transformers answers together."""
    dtype: Dtype = "auto"
    """Compute dtype."""
