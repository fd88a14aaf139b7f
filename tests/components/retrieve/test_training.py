import dataclasses

import numpy as np
import pytest
import torch

from components.retrieve import models
from components.retrieve.config import Gru4recConfig, RetrieveConfig, SasrecConfig, TrainingConfig
from components.retrieve.interactions import Histories, load
from components.retrieve.ranking import hits, ndcg
from components.retrieve.training import NetworkRecommender, batches, pad, validation_ndcg
from components.shared.errors import TrainingError

CPU = torch.device("cpu")
TINY = SasrecConfig(
    dim=16,
    layers=1,
    heads=2,
    max_length=8,
    dropout=0.1,
    temperature=0.0,
    training=TrainingConfig(epochs=12, batch_size=16, learning_rate=1.0e-2),
)


def config(**changes: object) -> RetrieveConfig:
    small = dataclasses.replace(TINY, **changes)
    shared = {k: v for k, v in dataclasses.asdict(small).items() if k not in ("heads", "training")}
    recurrent = Gru4recConfig(**shared, training=small.training)
    return RetrieveConfig(sasrec=small, sasrec_bce=small, gru4rec=recurrent)


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def fit(name: str, data, settings: RetrieveConfig):
    return models.fit(name, settings, data, data.train(), data.examples("valid"), -1)


def test_padding_goes_to_the_right() -> None:
    items, lengths = pad(histories([3, 4], [5], [6, 7, 8]), 9, CPU)
    assert items.tolist() == [[3, 4, 9], [5, 9, 9], [6, 7, 8]]
    assert lengths.tolist() == [2, 1, 3]


def test_every_sequence_comes_once_an_epoch() -> None:
    rows = [list(range(i, i + 2 + i % 5)) for i in range(50)]
    fed = batches(histories(*rows), 8, np.random.default_rng(0), 99, CPU)
    seen = [[i for i in row if i != 99] for items, _ in fed for row in items.tolist()]
    assert sorted(seen) == sorted(rows)


@pytest.mark.parametrize("name", ["sasrec", "sasrec_bce", "gru4rec"])
def test_padding_and_company_do_not_change_a_score(name) -> None:
    torch.manual_seed(0)
    recommender = NetworkRecommender(models.network(name, config(), 30)[1], CPU)
    asked = [[1, 2, 3], [4], list(range(12)), [], [7, 8]]
    together = recommender.scores(histories(*asked))
    for row, history in enumerate(asked):
        torch.testing.assert_close(recommender.scores(histories(history))[0], together[row])
    assert together[3].abs().max() == 0
    torch.testing.assert_close(recommender.scores(histories(asked[2][-8:]))[0], together[2])


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_a_position_never_sees_the_future(name) -> None:
    torch.manual_seed(0)
    network = models.network(name, config(), 30)[1].eval()
    one, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 9, 30]])
    torch.testing.assert_close(network.hidden(one)[:, :2], network.hidden(other)[:, :2])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("sasrec", {}, id="full softmax"),
        pytest.param("sasrec", {"negatives": 20}, id="sampled softmax"),
        pytest.param("sasrec", {"temperature": 0.1}, id="cosine"),
        pytest.param("sasrec_bce", {}, id="binary"),
        pytest.param("gru4rec", {}, id="recurrent"),
    ],
)
def test_it_learns_the_ring(write_tables, ring, name, changes) -> None:
    inputs = write_tables(ring)
    data = load(inputs.sequences, inputs.catalogue)
    recommender, log = fit(name, data, config(**changes))
    test = data.examples("test")
    popularity = models.Popularity(data.train(), data.num_items)
    assert log.losses[-1] < log.losses[0]
    assert validation_ndcg(recommender, test) > 3 * validation_ndcg(popularity, test)
    assert validation_ndcg(recommender, data.examples("valid")) == pytest.approx(max(log.valid_ndcg))


def test_the_same_seed_gives_the_same_scores_and_leaves_torchs_state(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs.sequences, inputs.catalogue)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    asked = data.examples("test").histories
    first, second = (fit("sasrec", data, config(negatives=20))[0].scores(asked) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(1), expected)


def test_it_stops_when_validation_no_longer_improves(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs.sequences, inputs.catalogue)
    training = dataclasses.replace(TINY.training, learning_rate=1.0e-9, epochs=50, patience=2)
    _, log = fit("sasrec", data, config(training=training))
    assert log.best_epoch == 1
    assert len(log.losses) == 3


def test_a_loss_that_is_no_number_names_the_knob(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs.sequences, inputs.catalogue)
    training = dataclasses.replace(TINY.training, learning_rate=1.0e30, clip_norm=0.0)
    with pytest.raises(TrainingError, match=r"sasrec: the loss became (nan|inf).*learning_rate"):
        fit("sasrec", data, config(training=training))


def test_without_any_transition_it_stays_as_initialised(write_tables) -> None:
    inputs = write_tables({"a": ["x", "y", "z"], "b": ["y", "z", "x"]})
    data = load(inputs.sequences, inputs.catalogue)
    recommender, log = fit("sasrec", data, config())
    assert log.losses == []
    assert sorted(recommender.rank(data.examples("test").histories, 3).items[:, 0]) != [-1, -1]


def test_validation_ndcg_is_the_plain_mean(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs.sequences, inputs.catalogue)
    recommender, valid = models.Popularity(data.train(), data.num_items), data.examples("valid")
    ranked = recommender.rank(valid.histories, 10)
    each = [
        next((1 / np.log2(r + 2) for r, item in enumerate(row) if item == label[0]), 0.0)
        for row, label in zip(ranked.items, valid.labels, strict=True)
    ]
    assert validation_ndcg(recommender, valid) == pytest.approx(np.mean(each))
    found = hits(ranked, valid.labels, data.num_items)
    assert ndcg(found, valid.labels.lengths, 10) == pytest.approx(each)
