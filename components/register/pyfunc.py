"""The registered model: rows of history and candidates in, ranked item ids and a rationale out.

MLflow stores this file as the model's code and runs it when the model is loaded, with copies of the shared
modules that it imports, under a name of their own: the repository need not be installed, and versions with
different code live in one process.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from components.shared.errors import DataError
from components.shared.prompting import answer
from components.shared.prompting import render as prompt
from components.shared.prompting.request import Request, read_request
from components.shared.prompting.settings import PromptSettings


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
        requests = [read_request(row, f"row {number}") for number, row in enumerate(rows)]
        answers = complete(
            self.lm,
            [self._messages(number, request) for number, request in enumerate(requests)],
            max_new_tokens=self.settings["max_new_tokens"],
            batch_size=self.settings["batch_size"],
        )
        length = self.prompt.answer_length
        ranked = [
            ranking(request, first.text, length) for request, (first,) in zip(requests, answers, strict=True)
        ]
        return pd.DataFrame(ranked, columns=["item_ids", "rationale", "valid"])

    def _messages(self, number: int, request: Request) -> list[dict[str, str]]:
        from components.shared.language_model.load import encode_prompt

        try:
            whole = prompt_input(request, self.prompt)
            fitted, _ = prompt.fit(
                whole, lambda messages: len(encode_prompt(self.lm.tokenizer, messages)), self.prompt
            )
        except (ValueError, OverflowError) as error:  # too long; days before the year 1
            raise DataError(f"row {number}: {error}") from error
        return prompt.messages(fitted, self.prompt)


def prompt_input(request: Request, settings: PromptSettings) -> prompt.PromptInput:
    """Return a request's prompt content, as the prompts step takes it from the log."""
    candidates = request.distinct_candidates
    history = [
        prompt.Interaction(
            title=prompt.shown_title(vars(seen), settings),
            topic=seen.topic or "",
            action=max(seen.actions, key=lambda action: prompt.STRENGTH.get(action, -1)),
            timestamp=seen.timestamp,
        )
        for seen in request.history
    ]
    topics = (interaction.topic for interaction in history)
    given = [(interest.topic, interest.count) for interest in request.interests]
    return prompt.PromptInput(
        profile=request.profile,
        history=prompt.recent(history, request.now, settings),
        interests=given or prompt.topic_counts(topics, settings.interests),
        candidates=[
            prompt.Candidate(title=prompt.shown_title(vars(item), settings), topic=item.topic or "")
            for item in candidates
        ],
        now=request.now,
        answer_length=min(settings.answer_length, len(candidates)),
    )


def ranking(request: Request, text: str, answer_length: int) -> dict[str, Any]:
    """Return the output row for a request and the model's answer."""
    ids = [candidate.item_id for candidate in request.distinct_candidates]
    parsed = answer.parse(text)
    valid = parsed.is_valid(len(ids), answer_length)
    return {
        "item_ids": answer.final_ranking(text, ids),
        "rationale": parsed.reasoning if valid else "",
        "valid": valid,
    }


mlflow.models.set_model(RankingModel())
