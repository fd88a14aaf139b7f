"""The blend within the step: what its rows hold, and what its weights and candidates must not depend on."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.retrieve.blend.config import BLENDS, BlendConfig
from components.retrieve.blend.features import pool_features
from components.retrieve.blend.recommender import Blend, rank
from components.retrieve.blend.sales import DAY, Sales
from components.retrieve.candidates.cross_fit import CrossFit
from components.retrieve.candidates.generator import CandidateGenerator, RetrievalContext
from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import NO_VALUE
from components.retrieve.job import run
from components.retrieve.tables import load

pytestmark = pytest.mark.usefixtures("random_vectors")

CONFIG = RetrieveConfig(
    models=("popularity", "item_to_item"),
    candidates_from="blend",
    num_candidates=5,
    ranking_depth=12,
    blend=BlendConfig(models=("item_to_item", "popularity"), pool=20),
)


def table(folder: Path) -> list[dict]:
    return pq.read_table(folder).to_pylist()


def test_both_blends_have_a_row_and_one_names_the_candidates(write_tables, ring, outputs) -> None:
    report = run(CONFIG, **write_tables(ring), **outputs)
    assert set(BLENDS) < set(report.models)
    assert set(BLENDS) < {row["model"] for row in table(outputs["rankings"])}
    found = {(row["user_id"], row["split"]): row for row in table(outputs["candidates"])}
    for row in table(outputs["rankings"]):
        if row["model"] == "blend":
            assert found[row["user_id"], row["split"]]["item_ids"] == row["item_ids"][:5]
    best = max(report.models[name]["test"]["ndcg@10"] for name in CONFIG.models)
    assert report.models["blend"]["test"]["ndcg@10"] > 0.9 * best
    page = outputs["report_html"].read_text()
    assert all(name in page for name in BLENDS) and "differ in facts of time" in page


def fitted(inputs: dict[str, Path], checkpoints: Path, config: RetrieveConfig = CONFIG) -> CrossFit:
    """Return fold models and blends; the generator of all users is added as fold -1."""
    data = load(inputs["sequences"], inputs["catalogue"])
    checkpoints.mkdir(exist_ok=True)
    context = RetrievalContext(config, data, None, checkpoints)
    final, cross_fit = CandidateGenerator(context, np.arange(len(data.user_ids)), -1), CrossFit.of(context)
    cross_fit.add_blends(final)
    cross_fit.generators[-1] = final
    return cross_fit


def blends(cross_fit: CrossFit) -> dict[tuple[int, str], Blend]:
    found = {(f, name): g.fit(name)[0] for f, g in cross_fit.generators.items() for name in BLENDS}
    return {key: blend for key, blend in found.items() if isinstance(blend, Blend)}


@pytest.mark.parametrize("learner", ["logit", "lightgbm"])
def test_no_validation_or_test_label_enters(write_tables, ring, tmp_path, learner) -> None:
    config = dataclasses.replace(CONFIG, blend=dataclasses.replace(CONFIG.blend, learner=learner))
    catalogue = sorted({item for items in ring.values() for item in items})
    others = {user: [*items[:-2], *_unseen(items, catalogue)] for user, items in ring.items()}
    assert all(items[-2:] != ring[user][-2:] for user, items in others.items())
    one, other = (
        fitted(write_tables(sequences, catalogue, name=name), tmp_path / f"checkpoints {name}", config)
        for name, sequences in (("true", ring), ("changed", others))
    )
    before, after = blends(one), blends(other)
    assert len(before) == 3 * len(BLENDS)
    for key, blend in before.items():
        assert blend.blends.weights[key[1]].tobytes() == after[key].blends.weights[key[1]].tobytes()
        assert blend.blends.trees == after[key].blends.trees  # by their text
        assert bool(blend.blends.trees) == (learner == "lightgbm")
        if key[0] < 0:  # valid prompts show the same histories; those of test hold the validation label
            pairs = [
                b.recommend(cross_fit.context.data.queries("valid"), 12)
                for b, cross_fit in ((blend, one), (after[key], other))
            ]
            assert pairs[0].items.tobytes() == pairs[1].items.tobytes()
    for cross_fit in (one, other):
        del cross_fit.generators[-1]
    lists = [cross_fit.candidates().lists for cross_fit in (one, other)]
    assert lists[0].items.tobytes() == lists[1].items.tobytes()
    assert lists[0].scores.tobytes() == lists[1].scores.tobytes()


def _unseen(items: list[str], catalogue: list[str]) -> list[str]:
    return [item for item in catalogue if item not in items][:2]


def test_weights_of_a_fold_do_not_see_its_own_labels(write_tables, ring, tmp_path) -> None:
    """Change the last train items of one fold's users: the models of that fold and its features stay."""
    one = fitted(write_tables(ring), tmp_path / "one")
    data = one.context.data
    mine = {data.user_ids[user] for user in one.queries.users[one.folds == 0]}
    catalogue = data.item_ids
    changed = {
        user: [*items[:-3], _unseen(items, catalogue)[0], *items[-2:]] if user in mine else items
        for user, items in ring.items()
    }
    other = fitted(write_tables(changed, catalogue, name="changed"), tmp_path / "other")
    queries = one.queries.take(one.folds == 0)
    before, after = (blends(cross_fit)[0, "blend"] for cross_fit in (one, other))
    pools = [pool_features(b.blends.side, queries.histories, queries.times, 20) for b in (before, after)]
    assert pools[0].features.tobytes() == pools[1].features.tobytes()
    assert pools[0].items.tobytes() == pools[1].items.tobytes()


def test_a_later_event_of_another_user_does_not_enter_the_facts_of_time(write_tables, ring, tmp_path) -> None:
    """A request of day 3 must not know what others met on that day or later, whatever it was."""
    one = fitted(write_tables(ring), tmp_path / "one")
    data = one.context.data
    generator = one.generators[-1]
    train = data.train()
    items, times = train.flat()[1], data.train_times()
    request = np.array([np.sort(times)[len(times) // 2]])
    asked = np.arange(data.num_items)[None, :]
    late = times >= request[0] // DAY * DAY
    assert late.any() and not late.all()
    shifted = np.where(late, (items + 1) % data.num_items, items)
    facts = [Sales.of(which, times).facts(asked, request) for which in (items, shifted)]
    assert facts[0].tobytes() == facts[1].tobytes()
    assert generator.item_side().sales.facts(asked, request).tobytes() == facts[0].tobytes()


def test_one_request_is_ranked_as_among_all_users(write_tables, ring, tmp_path) -> None:
    """Lists of the evaluation equal those of the same functions called as for a request, user by user."""
    cross_fit = fitted(write_tables(ring), tmp_path / "one")
    test = cross_fit.context.data.queries("test")
    for (fold, _), blend in blends(cross_fit).items():
        if fold < 0:
            together = blend.recommend(test, 10)
            for row in range(0, len(test), 9):
                part = test.take(slice(row, row + 1))
                pool = pool_features(blend.blends.side, part.histories, part.times, 20)
                alone = rank(pool, blend.blends.weights[blend.name], 10)
                assert alone.items.tolist() == together.items[row : row + 1].tolist()
                assert alone.scores == pytest.approx(together.scores[row : row + 1], rel=1e-4)


def test_pure_noise_scores_chance(write_tables, tmp_path) -> None:
    generator = np.random.default_rng(0)
    noise = {f"u{u:03d}": [f"i{i:03d}" for i in generator.permutation(200)[:8]] for u in range(400)}
    cross_fit = fitted(write_tables(noise), tmp_path / "noise")
    test = cross_fit.context.data.queries("test")
    for (fold, _), blend in blends(cross_fit).items():
        if fold < 0:
            hits = blend.recommend(test, 10).hits(test)
            assert hits.any(1).mean() < 10 / 193 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("length", [pytest.param(3, id="no train prompt"), pytest.param(6, id="one prompt")])
def test_one_user_is_ranked(write_tables, tmp_path, length) -> None:
    items = [f"i{number}" for number in range(length)]
    cross_fit = fitted(write_tables({"u": items}, catalogue=[*items, "other"]), tmp_path / "one")
    final, valid = cross_fit.generators[-1], cross_fit.context.data.queries("valid")
    lists = final.fit("blend")[0].recommend(valid, 9).items[0]
    assert sorted(lists[lists >= 0].tolist()) == [length - 2, length - 1, length]


@pytest.mark.parametrize("lacking", ["texts", "brands", "categories"])
def test_items_without_a_fact_are_ranked_by_the_rest(write_tables, ring, tmp_path, lacking) -> None:
    cross_fit = fitted(write_tables(ring), tmp_path / "with")
    final, data = cross_fit.generators[-1], cross_fit.context.data
    side = final.item_side()
    none = np.full(data.num_items, NO_VALUE)
    field, value, word = {
        "texts": ("vectors", np.zeros_like(side.vectors), "text"),
        "brands": ("brands", none, "brand"),
        "categories": ("categories", none, "category"),
    }[lacking]
    test = data.queries("test")
    without = dataclasses.replace(side, **{field: value})
    pool = pool_features(without, test.histories, test.times, 20)
    assert np.isfinite(pool.features).all()
    assert not pool.features[..., [word in name for name in side.names]].any()


def test_the_configuration_names_what_cannot_be_blended() -> None:
    with pytest.raises(ValueError, match=r"blend.models: 'online' is not one of"):
        RetrieveConfig(blend=BlendConfig(models=("online",)))
    with pytest.raises(ValueError, match=r"blend.models has a repeated name"):
        RetrieveConfig(blend=BlendConfig(models=("sasrec", "sasrec")))


TEACHING = dataclasses.replace(
    CONFIG, num_candidates=20, blend=dataclasses.replace(CONFIG.blend, learner="teacher")
)


def test_a_teacher_is_the_order_of_trees_beside_the_logits(write_tables, ring, outputs) -> None:
    inputs, found = write_tables(ring), {}
    for learner in ("logit", "teacher", "lightgbm"):
        changed = dataclasses.replace(TEACHING.blend, learner=learner)
        run(dataclasses.replace(TEACHING, blend=changed), **inputs, **outputs)
        found[learner] = table(outputs["candidates"])
        served = json.loads((outputs["served"] / "retriever.json").read_text())["blends"]
        assert set(served["weights"]) == set(BLENDS) and bool(served["trees"]) == (learner == "lightgbm")
    teachers = [row.pop("teacher") for row in found["teacher"]]
    assert [row.pop("teacher") for row in found["logit"]] == [None] * len(teachers)
    assert found["teacher"] == found["logit"]
    for row, teacher, trees in zip(found["teacher"], teachers, found["lightgbm"], strict=True):
        assert (teacher is None) == (row["split"] != "train")
        if teacher:
            score = dict(zip(row["item_ids"], teacher, strict=True))
            both = [n for n, item in enumerate(trees["item_ids"]) if item in score]  # trees order more items
            assert both
            assert [score[trees["item_ids"][n]] for n in both] == [trees["scores"][n] for n in both]


def test_a_teacher_owes_nothing_to_validation_and_test(write_tables, ring, outputs) -> None:
    catalogue = sorted({item for items in ring.values() for item in items})
    others = {user: [*items[:-2], *_unseen(items, catalogue)] for user, items in ring.items()}
    found = []
    for name, sequences in (("true", ring), ("changed", others)):
        run(TEACHING, **write_tables(sequences, catalogue, name=name), **outputs)
        found.append([row for row in table(outputs["candidates"]) if row["split"] == "train"])
    assert found[0] == found[1] and all(row["teacher"] for row in found[0])


def test_only_a_blend_has_a_teacher() -> None:
    with pytest.raises(
        ValueError, match=r"'teacher' orders what a blend found; set candidates_from to blend or"
    ):
        dataclasses.replace(TEACHING, candidates_from="blend+sasrec")
