"""The metrics of reports: names, titles, digits, and which are shown where."""

from collections.abc import Iterable

TITLES = {
    "recall@5": "Recall@5",
    "recall@10": "Recall@10",
    "ndcg@5": "NDCG@5",
    "ndcg@10": "NDCG@10",
    "graded_ndcg@10": "graded NDCG@10",
    "mrr@10": "MRR@10",
    "map@10": "MAP@10",
    "ilad": "ILAD",
    "novelty": "Novelty",
    "popularity": "Popularity",
    "coverage": "Coverage",
    "gini": "Gini",
}
"""Every metric by its name in reports, with its title for people. Novelty is in bits, popularity in
interactions, the rest in [0, 1]."""

_DIGITS = {"ilad": 3, "novelty": 2, "popularity": 1, "coverage": 3, "gini": 3}

METRICS = tuple(TITLES)

USER_METRICS = METRICS[:-2]
"""Metrics with one value per user; what is reported is their mean."""

ACCURACY_METRICS = METRICS[:4]

HEADLINE_METRICS = (*METRICS[:5], "ilad", "novelty", "coverage")
"""Metrics of every table of comparators; the higher the better. The report's page has the others below."""

COMPARED_METRICS = METRICS[:5]
"""Metrics whose paired differences are reported, so the ones on which a gate can demand a gain."""

FURTHER_METRICS = tuple(name for name in METRICS if name not in HEADLINE_METRICS)

_GLOSSARY = {
    "recall": "Recall@k: the share of what the user engaged with next that is among the first k.",
    "ndcg": "NDCG@k: the same, counting more the higher it stands.",
    "graded_ndcg": "Graded NDCG@k: and counting more, the stronger the engagement.",
    "mrr": "MRR@10: the mean of one over the rank of the first label, 0 beyond rank 10.",
    "map": "MAP@10: the precision at every label's rank, averaged over all labels; equal to MRR where a user "
    "has one label.",
    "ilad": "ILAD: how different the ten items of a list are from each other, 0 to 1.",
    "novelty": "Novelty: how unusual the items are, in bits; higher means less popular.",
    "popularity": "Popularity: how often the listed items occur in the training part, on average.",
    "coverage": "Coverage: the share of the catalogue that at least one user sees.",
    "gini": "Gini: how unequally the lists share out the catalogue; 0 if every item is listed equally often, "
    "1 if one item fills all lists.",
}


def glossary(metrics: Iterable[str]) -> str:
    """Return the metrics in words, for the pages that show them."""
    families = {metric.partition("@")[0] for metric in metrics}
    return " ".join(words for family, words in _GLOSSARY.items() if family in families)


def format_metric(metric: str, value: float) -> str:
    """Return the value with the digits that tables show of its metric."""
    return f"{value:.{_DIGITS.get(metric, 4)}f}"
