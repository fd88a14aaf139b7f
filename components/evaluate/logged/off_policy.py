"""Off-policy estimate: the engagement that a ranking would have had where the online system showed lists.

Estimand: mean over users of the engagement per slot (label weight of the item shown there, if the user
engaged with it afterwards; else 0), had the ranking's first items been shown instead of the user's list. A
slot counts where the ranking names the item that was shown there, by the inverse of the probability
(propensity) with which the online system put that item there (inverse propensity scoring per slot, Li et al.
2018). It takes for granted that engagement with a slot depends on the user, the item and the slot alone, and
that the propensities are right and nowhere zero.

A user without a test label engaged with nothing that was shown, which adds 0 whatever the ranking: these
users count without being ranked. Hence no self-normalised estimate (Swaminathan & Joachims 2015): it divides
by the sum of everybody's weights, which depend on the rankings. Divided by the sum over users with a label
alone, the level was 0.70 for 0.18 and 0.23 for 0.04 in the test's simulation. Where everybody has a label,
lists that led to one stand for those that did not, so the level is too high, and a ranking's ratio to the
lists as shown is right; self-normalised, it would be too close to one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

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
    """The list that a user was shown; each slot's propensity, and the engagement that followed."""

    items: Sequence[str]
    propensities: Sequence[float]
    engagement: Sequence[float]


def estimates(
    rankings: Mapping[str, Sequence[Sequence[str]]],
    shown: Sequence[Shown | None],
    without_label: int,
    sample: Sample,
) -> list[OffPolicy]:
    """Return the estimate of the lists as they were shown, then of every ranking.

    `rankings` are item ids per prompt, best first; `shown` is None for a prompt without a list;
    `without_label` further users were shown a list and have no prompt. Rankings that agree with no shown slot
    are left out, as is everything without a list.
    """
    queries = [i for i, listed in enumerate(shown) if listed]
    if not queries:
        return []
    sums = {SHOWN: _sums(None, queries, shown)}
    sums |= {name: _sums(lists, queries, shown) for name, lists in rankings.items()}
    sums = {name: of_user for name, of_user in sums.items() if of_user[0].any()}
    earned = np.pad(np.stack([of_user[2] for of_user in sums.values()]), ((0, 0), (0, without_label)))
    # Users are resampled, so that slots of one list stay together.
    resampled = resampled_means(earned, sample.bootstrap_samples, sample.seed)
    return [
        OffPolicy(
            name=name,
            engagement=float(earned[i].mean()),
            effective_slots=float(weights.sum()) ** 2 / float(squares.sum()),
            matching_users=int((weights > 0).sum()),
            users=earned.shape[1],
            users_without_label=without_label,
            **asdict(interval(resampled[i], sample.confidence)),
        )
        for i, (name, (weights, squares, _)) in enumerate(sums.items())
    ]


def _sums(
    lists: Sequence[Sequence[str]] | None, queries: Sequence[int], shown: Sequence[Shown | None]
) -> Floats:
    """Return [3, query]: over slots sums of weights and of their squares, mean weighted engagement.

    Without `lists` every shown slot weighs one.
    """
    sums = np.zeros((3, len(queries)))
    for row, i in enumerate(queries):
        listed = shown[i]
        if listed is None:
            continue
        slots = list(zip(listed.items, listed.propensities, listed.engagement, strict=True))[:SLOTS]
        for slot, (item, propensity, engagement) in enumerate(slots):
            weight = 1.0
            if lists is not None:
                if slot >= len(lists[i]) or lists[i][slot] != item:
                    continue
                weight = 1 / propensity
            sums[:, row] += weight, weight**2, weight * engagement / len(slots)
    return sums


def read_shown(
    exposures: str, sequences: str, prompts: Sequence[PromptRow]
) -> tuple[list[Shown | None], int]:
    """Return each prompt's list; how many further users were shown one, without a label.

    Only lists with propensities count; None: a prompt has none. Where the test begins at one time for all
    users, a user's list is the first one since then: which one it is does not depend on what followed.
    Users without a label are as large a part of all such users as the `prompts` are of those with one. Else
    everybody has a label, and the list is the latest before it.
    `exposures` and `sequences` are folders or URIs of these tables.
    """
    lists = pc.field("propensities").is_valid()
    if not dataset(exposures).count_rows(filter=lists):
        return [None] * len(prompts), 0
    labelled, begin = _test_part(sequences)
    without_label = 0.0
    if begin is not None:
        lists &= pc.field("timestamp") >= begin
        asked = dataset(exposures).to_table(columns=["user_id"], filter=lists)["user_id"].unique()
        with_label = pc.sum(pc.is_in(asked, labelled)).as_py() or 0
        without_label = (len(asked) - with_label) / max(with_label, 1)
    users = pa.array(sorted({prompt.user_id for prompt in prompts}), pa.string())
    of_users = pc.field("user_id").isin(users)
    columns = ["user_id", "timestamp", "item_ids", "propensities"]
    by_user: dict[str, list[dict]] = {}
    shown = dataset(exposures).to_table(columns, lists & of_users).to_pylist()
    for row in sorted(shown, key=lambda row: row["timestamp"]):
        by_user.setdefault(row["user_id"], []).append(row)
    listed = dataset(sequences).to_table(["user_id", "item_ids", "timestamps"], of_users).to_pylist()
    times = {row["user_id"]: dict(zip(row["item_ids"], row["timestamps"], strict=True)) for row in listed}
    found = []
    for prompt in prompts:
        user, rows = times[prompt.user_id], by_user.get(prompt.user_id, [])
        if begin is None:
            rows = [row for row in rows if row["timestamp"] <= list(user.values())[prompt.position]][-1:]
        found.append(_shown(rows[0], prompt, user) if rows else None)
    return found, round(without_label * sum(listed is not None for listed in found))


def _shown(row: Mapping, prompt: PromptRow, times: Mapping[str, datetime]) -> Shown:
    """Return the list in `row`; `times` are those of the user's items."""
    gains = {item: gain for item, gain in prompt.gains.items() if times[item] >= row["timestamp"]}
    engagement = [gains.get(item, 0.0) for item in row["item_ids"]]
    return Shown(items=row["item_ids"], propensities=row["propensities"], engagement=engagement)


def _test_part(sequences: str) -> tuple[pa.Array, datetime | None]:
    """Return users with a test label; when the test begins (None: not at once)."""
    users, before, first = [], -math.inf, math.inf
    for batch in dataset(sequences).to_batches(columns=["user_id", "timestamps", "valid_end"]):
        lengths = pc.list_value_length(batch["timestamps"]).to_numpy(zero_copy_only=False)
        times = batch["timestamps"].flatten().cast(pa.int64()).to_numpy().astype(float)
        ends = batch["valid_end"].to_numpy()
        places, has_label = np.cumsum(lengths) - lengths + ends, ends < lengths
        before = max(before, times[places[ends > 0] - 1].max(initial=-math.inf))
        first = min(first, times[places[has_label]].min(initial=math.inf))
        users.append(batch["user_id"].filter(pa.array(has_label)))
    # The cut itself stands in no table: no event lies between it and the first one of the test.
    is_common = before < first < math.inf
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(first)) if is_common else None
    return pa.chunked_array(users, pa.string()).combine_chunks(), begin
