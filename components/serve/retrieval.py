"""Requests completed from the served folder: titles of what they name, candidates where they send none."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from components.retrieve.interactions import Histories, Queries
from components.retrieve.served.folder import load
from components.shared.prompting.request import CandidateItem, Request, SeenItem

SHOWN = ("title", "topic", "brand")
"""Fields that the catalogue fills in where an entry of a history lacks them."""


class Retrieval:
    """The retriever of a served folder, with what prompts show of the catalogue's items."""

    def __init__(self, folder: Path) -> None:
        served = load(folder)
        self.retriever, self.segments = served.retriever, served.segments
        self.items = served.items
        self.index = pd.Index(self.items["item_id"].to_pylist())

    def completed(self, requests: Sequence[Request]) -> tuple[list[Request], list[int]]:
        """Return `requests` with titles, and candidates where one has none; unknown entries of each.

        An entry of a history is unknown if the catalogue lacks its item: it does not count in retrieval, and
        without a title of its own it is left out of the prompt as well.
        """
        places = [self._places(request) for request in requests]
        done = [
            replace(request, history=self._described(request.history, known))
            for request, known in zip(requests, places, strict=True)
        ]
        asking = [number for number, request in enumerate(requests) if not request.candidates]
        lists = self._candidates([requests[n] for n in asking], [places[n] for n in asking])
        for number, candidates in zip(asking, lists, strict=True):
            done[number] = replace(done[number], candidates=candidates)
        return done, [known.count(-1) for known in places]

    def _places(self, request: Request) -> list[int]:
        """Return each entry's index in the catalogue, -1 where it has none."""
        return self.index.get_indexer([seen.item_id for seen in request.history]).tolist()

    def _described(self, history: Sequence[SeenItem], places: Sequence[int]) -> list[SeenItem]:
        """Return the entries that have a title, of their own or the catalogue's."""
        known = [place for place in places if place >= 0]
        items = dict(zip(known, self._shown(known), strict=True))
        described = [
            replace(seen, **{name: getattr(seen, name) or items[place][name] for name in SHOWN})
            if place in items
            else seen
            for seen, place in zip(history, places, strict=True)
        ]
        return [seen for seen in described if seen.title]

    def _shown(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return the catalogue's fields of the items at `places`; None where it has none."""
        return self.items.take(pa.array(places, pa.int64())).to_pylist()

    def _candidates(
        self, requests: Sequence[Request], places: Sequence[Sequence[int]]
    ) -> list[list[CandidateItem]]:
        """Return each request's candidates with what the catalogue tells, best first."""
        known = [list(dict.fromkeys(place for place in row if place >= 0)) for row in places]
        flat = np.array([place for row in known for place in row], np.int64)
        profiles = pd.DataFrame([request.profile for request in requests], range(len(requests)))
        queries = Queries.of_requests(
            Histories.from_lengths(flat, np.array([len(row) for row in known], np.int64)),
            np.array([round(request.now.timestamp() * 1e6) for request in requests], np.int64),
            self.segments.numbers(profiles),
        )
        lists, count = self.retriever.candidates(queries).lists, self.retriever.config.num_candidates
        return [
            [
                CandidateItem(**row, score=score)
                for row, score in zip(
                    self._shown(items[items >= 0].tolist()), scores[items >= 0].tolist(), strict=True
                )
            ]
            for items, scores in zip(lists.items[:, :count], lists.scores[:, :count], strict=True)
        ]
