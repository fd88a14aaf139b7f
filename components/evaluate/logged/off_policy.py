"""Off-policy estimate: the engagement that a ranking would have had where the online system showed lists.

Estimand: mean engagement per slot (label weight of the item shown there, 0 without engagement), had the
ranking's first items been shown to the sample's users instead of the latest list before their label.
A slot counts where the ranking names the item that was shown there, by the inverse of the probability
(propensity) with which the online system put that item there; normalised by the sum of these weights (SNIPS,
Swaminathan & Joachims 2015, per slot as in Li et al. 2018). It takes for granted that engagement with a slot
depends on the user, the item and the slot alone, and that the propensities are right and nowhere zero.
The sample's users have a test label, so all of them engaged with something. Where that came from the list,
the level is too high for everybody who was shown one (in the test's simulation 0.70 for 0.18, 0.23 for
0.04): compare rankings by it, whose order holds while their ratios shrink.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.evaluate.comparison import interval, resampled_means
from components.evaluate.tables import dataset
from components.shared.metrics import Floats
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import OffPolicy, Sample

SLOTS = 10
SHOWN = "as it was shown"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The list that a user was shown, and each item's propensity."""

    items: Sequence[str]
    propensities: Sequence[float]


def estimates(
    rankings: Mapping[str, Sequence[Sequence[str]]],
    prompts: Sequence[PromptRow],
    shown: Sequence[Shown | None],
    sample: Sample,
) -> list[OffPolicy]:
    """Return the estimate of the lists as they were shown, then of every ranking.

    `rankings` are item ids per prompt, best first; `shown` is None for a prompt without a list. Rankings that
    agree with no shown slot are left out, as is everything without a list.
    """
    queries = [i for i, listed in enumerate(shown) if listed]
    if not queries:
        return []
    found = [_estimate(SHOWN, *_sums(None, queries, prompts, shown), sample)]
    for name, lists in rankings.items():
        found.append(_estimate(name, *_sums(lists, queries, prompts, shown), sample))
    return [estimate for estimate in found if estimate]


def _sums(
    lists: Sequence[Sequence[str]] | None,
    queries: Sequence[int],
    prompts: Sequence[PromptRow],
    shown: Sequence[Shown | None],
) -> tuple[Floats, Floats, Floats]:
    """Return sums per user over slots: weights, their squares, weighted engagement.

    Without `lists` every shown slot weighs one.
    """
    sums = np.zeros((3, len(queries)))
    for row, i in enumerate(queries):
        listed, gains = shown[i], prompts[i].gains
        if listed is None:
            continue
        for slot, (item, propensity) in enumerate(zip(listed.items, listed.propensities, strict=True)):
            if slot == SLOTS:
                break
            weight = 1.0
            if lists is not None:
                if slot >= len(lists[i]) or lists[i][slot] != item:
                    continue
                weight = 1 / propensity
            sums[:, row] += weight, weight**2, weight * gains.get(item, 0.0)
    return sums[0], sums[1], sums[2]


def _estimate(
    name: str, weights: Floats, squares: Floats, engagement: Floats, sample: Sample
) -> OffPolicy | None:
    total = float(weights.sum())
    if not total:
        return None
    # Users are resampled, so that slots of one list stay together; a resample without a match says nothing.
    below, above = resampled_means(np.stack([weights, engagement]), sample.bootstrap_samples, sample.seed)
    ratios = above[below > 0] / below[below > 0]
    return OffPolicy(
        name=name,
        engagement=float(engagement.sum()) / total,
        effective_slots=total**2 / float(squares.sum()),
        matching_users=int((weights > 0).sum()),
        users=len(weights),
        **asdict(interval(ratios, sample.confidence)),
    )


def read_shown(exposures: str, sequences: str, prompts: Sequence[PromptRow]) -> list[Shown | None]:
    """Return the latest list with propensities before each prompt's label; None without one.

    `exposures` and `sequences` are folders or URIs of these tables.
    """
    users = pa.array(sorted({prompt.user_id for prompt in prompts}), pa.string())
    lists = _read(exposures, ["user_id", "timestamp", "item_ids", "propensities"], users)
    lists = lists.filter(pc.is_valid(lists["propensities"])).sort_by("timestamp")
    if not lists.num_rows:
        return [None] * len(prompts)
    by_user: dict[str, list[dict]] = {}
    for row in lists.to_pylist():
        by_user.setdefault(row["user_id"], []).append(row)
    listed = _read(sequences, ["user_id", "timestamps"], users).to_pylist()
    times = {row["user_id"]: row["timestamps"] for row in listed}
    found: list[Shown | None] = []
    for prompt in prompts:
        label = times[prompt.user_id][prompt.position]
        earlier = [row for row in by_user.get(prompt.user_id, ()) if row["timestamp"] <= label]
        latest = [Shown(items=row["item_ids"], propensities=row["propensities"]) for row in earlier[-1:]]
        found.append(latest[0] if latest else None)
    return found


def _read(location: str, columns: Sequence[str], users: pa.Array) -> pa.Table:
    """Return the users' rows of a table, read where it lies."""
    return dataset(location).to_table(columns=list(columns), filter=pc.field("user_id").isin(users))
