"""The registered model: rows of history and candidates in, ranked item ids and a rationale out.

MLflow stores this file as the model's code and runs it when the model is loaded, with the copies of
`components/shared` that were shipped beside it: the repository need not be installed.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from components.shared.errors import DataError
from components.shared.prompting import answer
from components.shared.prompting import render as prompt
from components.shared.prompting.settings import PromptSettings

Row = Mapping[str, Any]


class RankingModel(PythonModel):
    """Ranks the candidates of each row; `model_config` holds the fields of ServingConfig.

    Input columns (`?`: may be left out or null):
        history: list of {title, topic?, item_id?, actions, timestamp}, one entry a distinct item, oldest
            first; actions are words of the events table, timestamp is the ISO 8601 time (UTC without a
            zone) of the first of them. Titles are those of the catalogue table, cleaned as it holds them.
        candidates: list of {item_id, title, topic?} in the retriever's order; at least one.
        profile?: mapping of a field's name to text. now?: ISO 8601 time of the request; default: the
            clock's. interests?: list of {topic, count}; default: counted over `history`.
        A column that only some rows need holds None in the others (MLflow refuses NaN there).

    Output columns: item_ids (all candidates, best first: those that the answer names, then the others in
    their order), rationale (the model's reasons; "" if the answer is not valid), valid.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the language model from the version's own files."""
        from components.shared.language_model.load import load

        self.settings = dict(context.model_config or {})
        self.prompt = PromptSettings(**{f.name: self.settings[f.name] for f in fields(PromptSettings)})
        self.lm = load(Path(context.artifacts["model"]), self.settings["dtype"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Rank every row of `model_input`; rows are independent of each other. No rows give no rows.

        Raises:
            DataError: a row has no candidates, a time that is none, or is too long for the prompt.
        """
        from components.shared.language_model.generate import complete

        rows = [
            {str(key): value for key, value in row.items()} for row in model_input.to_dict(orient="records")
        ]
        answers = complete(
            self.lm,
            [self._messages(number, row) for number, row in enumerate(rows)],
            max_new_tokens=self.settings["max_new_tokens"],
            batch_size=self.settings["batch_size"],
        )
        ranked = [
            _ranked(row, one[0].text, self.settings["answer_length"])
            for row, one in zip(rows, answers, strict=True)
        ]
        return pd.DataFrame(ranked, columns=["item_ids", "rationale", "valid"])

    def _messages(self, number: int, row: Row) -> list[dict[str, str]]:
        from components.shared.language_model.load import encode_prompt

        try:
            whole = prompt_input(row, self.prompt)
            fitted, _ = prompt.fit(
                whole, lambda messages: len(encode_prompt(self.lm.tokenizer, messages)), self.prompt
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"row {number}: {error}") from error
        return prompt.messages(fitted, self.prompt)


def prompt_input(row: Row, settings: PromptSettings) -> prompt.PromptInput:
    """Return what the prompt of a request is made of, as the prompts step makes it from the log.

    Raises:
        ValueError: no candidates, an entry without a needed key, or a time that is none.
    """
    candidates = _list(row, "candidates")
    if not candidates:
        raise ValueError("candidates is empty; send the retriever's list")
    history = [_interaction(one, settings) for one in _list(row, "history")]
    asked = _given(row, "now")
    now = datetime.now(UTC) if asked is None else _time(asked)
    interests = [(one["topic"], int(one["count"])) for one in _list(row, "interests")]
    return prompt.PromptInput(
        profile=dict(_given(row, "profile") or {}),
        history=prompt.recent(history, now, settings),
        interests=interests or prompt.topic_counts((one.topic for one in history), settings.interests),
        candidates=[
            prompt.Candidate(
                title=prompt.shown_title(one.get("title") or "", one.get("item_id") or "", settings),
                topic=one.get("topic") or "",
            )
            for one in candidates
        ],
        now=now,
        answer_length=min(settings.answer_length, len(candidates)),
    )


def _ranked(row: Row, text: str, answer_length: int) -> dict[str, Any]:
    ids = [one["item_id"] for one in _list(row, "candidates")]
    said = answer.parse(text)
    valid = said.is_valid(len(ids), answer_length)
    return {
        "item_ids": answer.final_ranking(text, ids),
        "rationale": said.reasoning if valid else "",
        "valid": valid,
    }


def _interaction(one: Row, settings: PromptSettings) -> prompt.Interaction:
    actions = sorted(_list(one, "actions"), key=lambda action: prompt.STRENGTH.get(action, -1))
    if not actions:
        raise ValueError(f"history: {one.get('title')!r} has no actions")
    return prompt.Interaction(
        title=prompt.shown_title(one.get("title") or "", one.get("item_id") or "", settings),
        topic=one.get("topic") or "",
        actions=tuple(actions),
        timestamp=_time(one["timestamp"]),
    )


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(str(text))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _given(row: Row, key: str) -> Any:
    """Return the value of an optional column; pandas writes None, NaN or NaT for one that was left out."""
    value = row.get(key)
    return None if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)) else value


def _list(row: Row, key: str) -> list[Any]:
    value = _given(row, key)
    return [] if value is None else list(value)  # MLflow passes arrays on as numpy's


mlflow.models.set_model(RankingModel())
