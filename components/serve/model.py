"""The registered model: users' histories in, ranked item ids and rationales out.

MLflow stores this file as the model's code and runs it when the model is loaded, with copies of the shared
modules that it imports, under a name of their own: the repository need not be installed, and versions with
different code live in one process.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext

from components.shared.config import from_mapping
from components.shared.errors import DataError
from components.shared.prompting import answer
from components.shared.prompting import render as prompt
from components.shared.prompting.request import Request, read_request
from components.shared.prompting.settings import PromptSettings, ServingConfig
from components.shared.prompting.table import Asked

KEPT_TITLES = 100_000
"""Titles whose likelihood without a history is kept for the next requests, some 300 bytes each."""


class RankingModel(PythonModel):
    """Ranks the candidates of each row; `model_config` holds the fields of ServingConfig.

    Input columns (`?`: may be left out or null):
        history: list of {item_id?, title?, topic?, brand?, actions, timestamp}; actions are words of the
            events table, timestamp is the ISO 8601 time (UTC without a zone) of the first of them. An entry
            names an item of the catalogue that the version was trained with, or has a title. Entries may
            have any order; those on one item_id are one.
        candidates?: list of {item_id, title, topic?, score?} in a retriever's order; default: what the
            version's own retriever finds for the history. Of repeats the first counts. A version that weighs
            the retriever's scores needs them. What `prompts.item_facts` shows may stand beside: brand?,
            tags?, description?, and what the version's retriever does not tell: the numbers users?, last? and
            together?, and actions?, a mapping of an action to a number.
        profile?: mapping of age, gender, city_tier or interests to text. now?: ISO 8601 time of the request;
            default: the clock's. interests?: list of {topic, count}, of which the most frequent are shown as
            in training; default: counted over `history`.
        A column that only some rows need holds None in the others (MLflow refuses NaN there).

    Output columns: item_ids (all candidates, best first: those that the answer names, then the others in
    their order; [] if none was sent and the history holds the whole catalogue), scores (of these items,
    log-likelihoods or, of a model that was trained to score, its logits; [] of generated answers),
    rationale (the model's reasons; "" if the answer is not valid), valid (decoding allows valid answers
    alone: only a `max_new_tokens` that is too small breaks one; a row without candidates has none),
    unknown_items (entries of the history that name no item of the catalogue: retrieval goes without them).

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
        from components.serve.retrieval import Retrieval
        from components.shared.language_model import generate, vllm_engine
        from components.shared.language_model.load import load, load_tokenizer
        from components.shared.language_model.ranker import Ranker

        self.settings = from_mapping(ServingConfig, dict(context.model_config or {}), "model_config")
        folder, dtype = Path(context.artifacts["model"]), self.settings.dtype
        self.tokenizer = load_tokenizer(folder)
        self.ranker = Ranker.read(folder)
        self.worth: dict[tuple[int, ...], float] = {}
        if self.ranker.answers == "generate" and self.settings.answer == "scored":
            self.ranker = Ranker("label_logits")
        if self.ranker.answers == "generate" and self.settings.engine == "vllm":
            self.opened = vllm_engine.opened(folder, dtype, seed=0)  # its processes end with this model
            self.complete = self.opened.__enter__().complete
        else:
            self.lm = load(folder, dtype)
            self.complete = partial(generate.complete, self.lm, batch_size=self.settings.batch_size)
        self.retrieval = Retrieval(Path(context.artifacts["retriever"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one ranking per row of `model_input`. Raises MlflowException naming what is bad."""
        try:
            return self._answers(model_input.to_dict(orient="records"))
        except DataError as error:  # a server answers this with status 400 and the reason
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _answers(self, rows: list[dict[Hashable, Any]]) -> pd.DataFrame:
        requests = [read_request(row, f"row {number}") for number, row in enumerate(rows)]
        requests, unknown = self.retrieval.completed(requests)
        # Whoever has met the whole catalogue must not cost the other rows their answers.
        able = {n: request for n, request in enumerate(requests) if request.candidates}
        asked = [self._asked(n, request) for n, request in able.items()]
        rank = self._reasoned if self.ranker.answers == "generate" else self._scored
        ranked = dict(zip(able, rank(able, asked), strict=True))
        nothing = {"item_ids": [], "scores": [], "rationale": "", "valid": False}
        answers = [ranked.get(n, nothing) for n in range(len(requests))]
        return pd.DataFrame(answers, columns=list(nothing)).assign(unknown_items=unknown)

    def _reasoned(self, requests: Mapping[int, Request], asked: list[Asked]) -> list[dict[str, Any]]:
        from components.shared.language_model.grammar import Shape

        length = self.settings.answer_length
        answers = self.complete(
            [shown.messages for shown in asked],
            max_new_tokens=self.settings.max_new_tokens,
            shapes=[Shape(len(request.candidates), length) for request in requests.values()],
        )
        return [
            ranking(request, first.text, length)
            for request, (first,) in zip(requests.values(), answers, strict=True)
        ]

    def _scored(self, requests: Mapping[int, Request], asked: list[Asked]) -> list[dict[str, Any]]:
        from components.shared.language_model.scoring import question, score_all

        retriever = [self._retriever_scores(n, request) for n, request in requests.items()]
        questions = [question(self.tokenizer, self.ranker.answers, shown) for shown in asked]
        if len(self.worth) > KEPT_TITLES:  # requests may bring any titles
            self.worth = {}
        logits = self.ranker.all_logits(score_all(self.lm, questions, worth=self.worth), retriever)
        return [
            scored_row(request, values) for request, values in zip(requests.values(), logits, strict=True)
        ]

    def _retriever_scores(self, number: int, request: Request) -> list[float]:
        scores = [candidate.score for candidate in request.candidates]
        if self.ranker.fuse and None in scores:
            raise DataError(
                f"row {number}: candidates[{scores.index(None)}].score is missing, the retriever's: this "
                "version weighs it beside its own; send it, or no candidates"
            )
        return [score or 0.0 for score in scores]

    def _asked(self, number: int, request: Request) -> Asked:
        from components.shared.language_model.load import encode_prompt

        try:
            whole = prompt_input(request, self.settings)
            fitted, _ = prompt.fit(
                whole, lambda messages: len(encode_prompt(self.tokenizer, messages)), self.settings
            )
        except (ValueError, OverflowError) as error:  # too long; days before the year 1
            raise DataError(f"row {number}: {error}") from error
        return Asked(
            messages=prompt.messages(fitted, self.settings),
            titles=[candidate.title for candidate in fitted.candidates],
            history=[past.title for past in fitted.history],
        )


def prompt_input(request: Request, settings: PromptSettings) -> prompt.PromptInput:
    """Return a request's prompt content, as the prompts step takes it from the log."""
    candidates = request.candidates
    history = [
        prompt.Interaction(
            title=prompt.shown_title(vars(seen), settings),
            topic=seen.topic or "",
            actions=seen.actions,
            timestamp=seen.timestamp,
        )
        for seen in request.history
    ]
    counts = Counter({interest.topic: interest.count for interest in request.interests})
    counts = counts or Counter(seen.topic for seen in history if seen.topic)
    return prompt.PromptInput(
        profile=request.profile,
        history=prompt.recent(history, request.now, settings),
        interests=prompt.most_frequent(counts, settings.interests),
        candidates=[
            prompt.Candidate(
                title=prompt.shown_title(vars(item), settings),
                topic=item.topic or "",
                facts=prompt.item_facts(vars(item), settings),
            )
            for item in candidates
        ],
        now=request.now,
        answer_length=min(settings.answer_length, len(candidates)),
        activity=prompt.activity_lines(history, request.now, settings),
    )


def ranking(request: Request, text: str, answer_length: int) -> dict[str, Any]:
    """Return the output row for a request and the model's answer."""
    ids = [candidate.item_id for candidate in request.candidates]
    parsed = answer.parse(text)
    valid = parsed.is_valid(len(ids), answer_length)
    return {
        "item_ids": answer.final_ranking(text, ids),
        "scores": [],
        "rationale": parsed.reasoning if valid else "",
        "valid": valid,
    }


def scored_row(request: Request, scores: Sequence[float]) -> dict[str, Any]:
    """Return the output row for a request and its candidates' scores."""
    from components.shared.language_model import scoring

    ids = [candidate.item_id for candidate in request.candidates]
    order = [number - 1 for number in scoring.ranking(scores)]
    return {
        "item_ids": [ids[place] for place in order],
        "scores": [scores[place] for place in order],
        "rationale": "",
        "valid": True,
    }


mlflow.models.set_model(RankingModel())
