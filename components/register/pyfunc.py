"""The registered model: rows of history and candidates in, ranked item ids and a rationale out.

MLflow stores this file as the model's code and runs it when the model is loaded, with copies of the shared
modules that it imports, under a name of their own: the repository need not be installed, and versions with
different code live in one process.
"""

from collections.abc import Hashable, Mapping
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

Row = Mapping[Hashable, Any]


class RankingModel(PythonModel):
    """Ranks the candidates of each row; `model_config` holds the fields of ServingConfig.

    Input columns (`?`: may be left out or null):
        history: list of {title, topic?, item_id?, actions, timestamp}, one entry per distinct item, oldest
            first; actions are words of the events table, timestamp is the ISO 8601 time (UTC without a
            zone) of the first of them. Titles are those of the catalogue table.
        candidates: list of {item_id, title, topic?} in the retriever's order; at least one. Of repeats the
            first counts.
        profile?: mapping of a field's name to text. now?: ISO 8601 time of the request; default: the
            clock's. interests?: list of {topic, count}; default: counted over `history`.
        A column that only some rows need holds None in the others (MLflow refuses NaN there).

    Output columns: item_ids (all candidates, best first: those that the answer names, then the others in
    their order), rationale (the model's reasons; "" if the answer is not valid), valid.

    >>> import mlflow, pandas
    >>> model = mlflow.pyfunc.load_model("models:/recllm-r1@champion")
    >>> seen = {"title": "Chengdu Travel Guide", "actions": ["save"], "timestamp": "2026-01-01T09:30Z"}
    >>> candidates = [
    ...     {"item_id": "i1", "title": "Sichuan Cuisine at Home", "topic": "cooking"},
    ...     {"item_id": "i2", "title": "A Weekend in Chongqing", "topic": "travel"},
    ... ]
    >>> ranked = model.predict(pandas.DataFrame([{"history": [seen], "candidates": candidates}]))
    >>> sorted(ranked["item_ids"][0])  # sorted: which one is first depends on the model
    ['i1', 'i2']
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
        """Return one ranking per row of `model_input`. Raises DataError naming the bad row."""
        from components.shared.language_model.generate import complete

        rows = model_input.to_dict(orient="records")
        answers = complete(
            self.lm,
            [self._messages(number, row) for number, row in enumerate(rows)],
            max_new_tokens=self.settings["max_new_tokens"],
            batch_size=self.settings["batch_size"],
        )
        length = self.prompt.answer_length
        ranked = [ranked_row(row, first.text, length) for row, (first,) in zip(rows, answers, strict=True)]
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
    """Return a request's prompt content, as the prompts step takes it from the log."""
    candidates = _candidates(row)
    if not candidates:
        raise ValueError("candidates is empty; send the retriever's list")
    history = [_interaction(entry, settings) for entry in _list(row, "history")]
    now = _time(_value(row, "now") or datetime.now(UTC))
    interests = [(entry["topic"], int(entry["count"])) for entry in _list(row, "interests")]
    topics = (interaction.topic for interaction in history)
    return prompt.PromptInput(
        profile=dict(_value(row, "profile") or {}),
        history=prompt.recent(history, now, settings),
        interests=interests or prompt.topic_counts(topics, settings.interests),
        candidates=[
            prompt.Candidate(title=prompt.shown_title(entry, settings), topic=entry.get("topic") or "")
            for entry in candidates
        ],
        now=now,
        answer_length=min(settings.answer_length, len(candidates)),
    )


def ranked_row(row: Row, text: str, answer_length: int) -> dict[str, Any]:
    """Return the output row for a request and the model's answer."""
    ids = [candidate["item_id"] for candidate in _candidates(row)]
    parsed = answer.parse(text)
    valid = parsed.is_valid(len(ids), answer_length)
    return {
        "item_ids": answer.final_ranking(text, ids),
        "rationale": parsed.reasoning if valid else "",
        "valid": valid,
    }


def _candidates(row: Row) -> list[Any]:
    """Return the request's candidates; of those with one item_id the first."""
    first: dict[str, Any] = {}
    for candidate in _list(row, "candidates"):
        first.setdefault(candidate["item_id"], candidate)
    return list(first.values())


def _interaction(entry: Row, settings: PromptSettings) -> prompt.Interaction:
    actions = _list(entry, "actions")
    if not actions:
        raise ValueError(f"history: {entry.get('title')!r} has no actions")
    return prompt.Interaction(
        title=prompt.shown_title(entry, settings),
        topic=entry.get("topic") or "",
        action=max(actions, key=lambda action: prompt.STRENGTH.get(action, -1)),
        timestamp=_time(entry["timestamp"]),
    )


def _time(text: str | datetime) -> datetime:
    time = datetime.fromisoformat(str(text))
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _value(row: Row, key: str) -> Any:
    """Return the value of an optional column; None where pandas has None, NaN or NaT."""
    value = row.get(key)
    return None if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)) else value


def _list(row: Row, key: str) -> list[Any]:
    value = _value(row, key)
    return [] if value is None else list(value)  # MLflow passes numpy arrays


mlflow.models.set_model(RankingModel())
