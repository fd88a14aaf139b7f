"""What several training seeds say together: means, and intervals over seeds and users."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from data_contracts.evaluation import TRAINED_MODEL, USERS
from data_contracts.metrics import TITLES

METRICS = ("ndcg@10", "recall@10")
CONTROL = "SFT continued"
"""The trained model of a control run, beside the models of its pair."""
SAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0


def over_seeds(
    reports: Sequence[Path], pairs: Sequence[tuple[str, str]], controls: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    """Return metrics of the trained model, and gains of (model, baseline), from runs by seed.

    `reports` are folders of the evaluations of the same users, and so are `controls`, the same seeds' runs
    whose trained model is CONTROL. Each row holds the quantity, the mean, its interval, and `by_seed`. A
    resample draws seeds as well as users, both with replacement, so the interval
    covers another training on other users (two-way bootstrap, Owen 2007; with few seeds it is too narrow).
    """
    import numpy as np

    from components.evaluate.comparison import interval, resampled_means

    tables = [users_of(*folders) for folders in zip_longest(reports, controls)]
    generator = np.random.default_rng(SEED)
    drawn = generator.multinomial(len(reports), [1 / len(reports)] * len(reports), SAMPLES).T / len(reports)

    def row(quantity: str, values: list[Any]) -> dict[str, Any]:
        values_SU = np.stack(values)  # seed, user
        means = (resampled_means(values_SU, SAMPLES, SEED) * drawn).sum(axis=0)
        bounds = interval(means, CONFIDENCE)
        by_seed = values_SU.mean(axis=1)
        mean = float(by_seed.mean())
        return {
            "quantity": quantity,
            "mean": mean,
            "low": bounds.low,
            "high": bounds.high,
            "by_seed": by_seed.tolist(),
        }

    rows = []
    for metric in METRICS:
        wide = [table[metric].unstack("model").sort_index() for table in tables]
        rows.append(row(TITLES[metric], [values[TRAINED_MODEL].to_numpy() for values in wide]))
        for model, name in pairs:
            gains = [(values[model] - values[name]).to_numpy() for values in wide]
            of = "" if model == TRAINED_MODEL else f" of {model}"
            rows.append(row(f"{TITLES[metric]}{of} minus {name}", gains))
    return rows


def users_of(report: Path, control: Path | None = None) -> Any:
    """Return the users' metrics by model, of a control run those of its trained model."""
    import pandas as pd

    users = pd.read_parquet(report / USERS)
    if control:
        others = pd.read_parquet(control / USERS)
        others = others[others["model"] == TRAINED_MODEL].assign(model=CONTROL)
        users = pd.concat([users, others])
    return users.set_index(["user_id", "position", "model"])


def verdict(rows: Sequence[Mapping[str, Any]], baseline: str) -> str:
    """Return in words what the seeds say of the gain in NDCG@10 over `baseline`."""
    found = next(row for row in rows if row["quantity"] == f"{TITLES['ndcg@10']} minus {baseline}")
    outcome = "better" if found["low"] > 0 else "worse" if found["high"] < 0 else "undecided"
    ahead = sum(value > 0 for value in found["by_seed"])
    return (
        f"Against {baseline}, NDCG@10 changes by {found['mean']:+.4f} [{found['low']:+.4f}, "
        f"{found['high']:+.4f}] over seeds and users: {outcome}; {ahead} of {len(found['by_seed'])} seeds "
        "gain."
    )


def figures(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what tables show of a row, by the columns' headers."""
    return {
        "mean": f"{row['mean']:.4f}",
        f"{CONFIDENCE:.0%} interval": f"{row['low']:.4f} to {row['high']:.4f}",
        "lowest seed": f"{min(row['by_seed']):.4f}",
        "highest seed": f"{max(row['by_seed']):.4f}",
    }
