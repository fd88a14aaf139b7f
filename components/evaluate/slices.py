"""NDCG@10 on parts of the users, and where the trained model is worse than others there."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from components.evaluate.comparison import difference, holm, p_value, resampled_means
from components.evaluate.scores import Scores
from components.evaluate.tables import Catalogue
from components.shared.metrics import Bools, Floats
from components.shared.prompting.table import PromptRow
from data_contracts.evaluation import Sample, Slice

METRIC = "ndcg@10"
SMALLEST = 20
"""Users that a slice needs: a bootstrap over fewer finds differences where there are none."""

MOST_GROUPS = 20
"""Groups by profile, the largest: each more asks for more bootstrap samples."""


def slices(
    prompts: Sequence[PromptRow], scores: Sequence[Scores], catalogue: Catalogue, sample: Sample
) -> list[Slice]:
    """Return the slices of at least `SMALLEST` users, with the last model's differences.

    A difference's p-value is corrected for the number of slices in which this pair is compared.
    """
    values = np.stack([score.values[METRIC] for score in scores])
    parts = _parts(prompts, catalogue)
    found = [(name, rule, users) for name, rule, users in parts if users.sum() >= SMALLEST]
    resampled = [
        resampled_means(values[:, users], sample.bootstrap_samples, sample.seed) for _, _, users in found
    ]
    corrected = [
        holm([p_value(means[-1] - means[other]) for means in resampled]) for other in range(len(scores) - 1)
    ]
    return [
        Slice(
            name=name,
            rule=rule,
            users=int(users.sum()),
            ndcg_at_10={score.name: float(score.values[METRIC][users].mean()) for score in scores},
            differences=tuple(
                difference(
                    scores[-1],
                    scores[other],
                    METRIC,
                    resampled[i][-1] - resampled[i][other],
                    sample.confidence,
                    p_holm=corrected[other][i],
                    users=users,
                )
                for other in range(len(scores) - 1)
            ),
        )
        for i, (name, rule, users) in enumerate(found)
    ]


def _parts(prompts: Sequence[PromptRow], catalogue: Catalogue) -> Iterator[tuple[str, str, Bools]]:
    """Yield the slices' names, rules and users [prompt]."""
    lengths = np.array([prompt.position for prompt in prompts], float)
    short, long = np.quantile(lengths, [1 / 3, 2 / 3], method="lower")
    yield "short histories", f"at most {short:.0f} items before the label (shortest third)", lengths <= short
    yield "long histories", f"over {long:.0f} items before the label (longest third)", lengths > long

    head = catalogue.head
    tail = np.array([head.isdisjoint(prompt.label_items) for prompt in prompts])
    new = np.array([_is_new(prompt, catalogue) for prompt in prompts])
    yield "tail items", "no label among the most popular fifth of the catalogue", tail
    yield "new items", "no label has interactions in the training part", new

    away: Floats = np.array([prompt.days_since_last for prompt in prompts], float)  # NaN for None
    if not np.isnan(away).all():
        days = np.nanquantile(away, 2 / 3, method="lower")
        yield "long away", f"more than {_duration(days)} since the last event (longest third)", away > days

    sizes = Counter(group for prompt in prompts for group in prompt.groups)
    for group in sorted(group for group, _ in sizes.most_common(MOST_GROUPS)):
        yield group, "", np.array([group in prompt.groups for prompt in prompts])


def _duration(days: float) -> str:
    return f"{days:.3g} days" if days >= 1 else f"{24 * 60 * days:.3g} minutes"


def _is_new(prompt: PromptRow, catalogue: Catalogue) -> bool:
    return not any(catalogue.train_count(item) for item in prompt.label_items)
