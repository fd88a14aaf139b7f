"""What a prompt shows and how long it may be: one set of settings for training, evaluation and serving."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """The prompt's settings.

    Attributes:
        max_history, history_days: the short-term history is the last `max_history` items of the last
            `history_days` days (0: of all time).
        interests: topics listed from the long-term history.
        max_prompt_tokens: tokens of the rendered chat; the oldest history is cut until it fits.
        title_chars: characters of a title; a longer one is cut at a word.
        answer_length: candidates that the answer must name.
        with_profile, with_interests, natural_language: switches of the paper's open checks; without
            natural language items appear as their ids, without topics or times.
    """

    max_history: int = 12
    history_days: int = 0
    interests: int = 5
    max_prompt_tokens: int = 384
    title_chars: int = 60
    answer_length: int = 5
    with_profile: bool = True
    with_interests: bool = True
    natural_language: bool = True

    def __post_init__(self) -> None:
        for name in ("max_prompt_tokens", "title_chars", "answer_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least 1")
        for name in ("max_history", "history_days", "interests"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must not be negative")
