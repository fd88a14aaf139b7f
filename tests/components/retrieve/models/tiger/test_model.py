from dataclasses import replace

import numpy as np
import pytest
import torch

from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Histories, Queries
from components.retrieve.model_config import SemanticIdConfig, TigerConfig, TrainingConfig
from components.retrieve.models import factory as models
from components.retrieve.models.tiger.model import CodeTree, Tiger, TigerRecommender
from components.retrieve.networks.training import validation_ndcg
from components.retrieve.tables import load

# Two levels of words and a tie breaker; words 0..2, 0..2, 0..1.
IDS = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 2, 0], [2, 1, 0], [2, 1, 1], [2, 2, 0]])
SMALL = TigerConfig(dim=16, layers=1, heads=2, max_length=6, dropout=0.0)


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def asked(*rows: list[int]) -> Queries:
    h = histories(*rows)
    nothing = np.zeros(len(h), np.int64)
    return Queries.of_requests(h, nothing, nothing)


def network(ids: np.ndarray = IDS, seed: int = 0, spread: float = 1.0) -> Tiger:
    torch.manual_seed(seed)
    built = Tiger(ids, SMALL)
    with torch.no_grad():  # far from uniform, so that orders differ
        for parameter in built.parameters():
            parameter.add_(spread * torch.randn_like(parameter) * 0.3)
    return built.eval()


def log_likelihoods(net: Tiger, history: list[int], ids: np.ndarray) -> np.ndarray:
    """The plain way: every item's words one after the other, without a tree or beams."""
    memory = net.encode(torch.tensor([history]))
    seen = torch.ones(1, 1, len(history), dtype=torch.bool)
    totals = []
    for words in ids:
        written, total = net.start(1, 1), 0.0
        for level, word in enumerate(words):
            state = net.decode(written, memory, seen)[0, 0, -1]
            total += net.logits(state, level).log_softmax(-1)[word].item()
            token = torch.tensor([[[word + net.splits[level][0]]]])
            written = torch.cat([written, token], 2)
        totals.append(total)
    return np.array(totals)


def test_the_tree_leads_to_every_item_and_nowhere_else() -> None:
    tree = CodeTree(IDS)
    paths = [([], 0)]
    for level in range(3):
        follow = []
        for path, node in paths:
            words, leads, real = tree.edges(level, torch.tensor([[node, -1]]))
            assert not real[0, 1].any()
            words, leads = words[0, 0][real[0, 0]].tolist(), leads[0, 0][real[0, 0]].tolist()
            follow += [([*path, word], child) for word, child in zip(words, leads, strict=True)]
        paths = follow
    assert {node: path for path, node in paths} == {item: row.tolist() for item, row in enumerate(IDS)}
    assert len(paths) == len(IDS)


@pytest.mark.parametrize("seed", range(5))
@torch.no_grad()
def test_a_wide_beam_finds_the_exact_order(seed) -> None:
    net = network(seed=seed)
    rows = [[0, 5], [3], [7, 2, 4, 1]]
    ranked = TigerRecommender(net).recommend(asked(*rows), 8)
    for history, items, scores in zip(rows, ranked.items, ranked.scores, strict=True):
        exact = log_likelihoods(net, history, IDS)
        expected = [i for i in np.argsort(-exact) if i not in history]
        assert items.tolist() == expected + [-1] * len(history)
        assert scores[: len(expected)] == pytest.approx(exact[expected], abs=1e-4)


@torch.no_grad()
def test_a_word_more_gives_what_decoding_all_of_them_gives() -> None:
    torch.manual_seed(0)
    net = Tiger(IDS, replace(SMALL, layers=2)).eval()
    seen = torch.tensor([[[True] * 3], [[True, False, False]]])
    memory = net.encode(torch.tensor([[0, 5, 3], [7, 8, 8]]))
    written = torch.randint(0, 8, (2, 4, 3))
    given: list[torch.Tensor] = []
    for level in range(3):
        state, given = net.decode_next(written[..., level], given, memory, seen)
        whole = net.decode(written[..., : level + 1], memory, seen.expand(-1, 4, -1))
        torch.testing.assert_close(state, whole[:, :, -1])


@torch.no_grad()
def test_a_narrow_beam_finds_real_items_that_the_history_lacks() -> None:
    generator = np.random.default_rng(0)
    ids = np.unique(generator.integers(0, 12, (400, 3)), axis=0)
    net = network(ids)
    rows = [generator.choice(len(ids), 4, replace=False).tolist() for _ in range(10)]
    ranked = TigerRecommender(net).recommend(asked(*rows), 20)
    exact = [log_likelihoods(net, row, ids) for row in rows[:2]]
    for history, items in zip(rows, ranked.items, strict=True):
        assert len(set(items)) == 20
        assert not set(items) & set(history) and items.min() >= 0
    for row in range(2):
        assert ranked.scores[row] == pytest.approx(exact[row][ranked.items[row]], abs=1e-4)
    long = generator.choice(len(ids), 40, replace=False).tolist()
    beside = TigerRecommender(net).recommend(asked(*rows, long), 20)
    assert np.array_equal(beside.items[:10], ranked.items)


def test_a_position_learns_from_what_stands_before_it_alone() -> None:
    """The loss of a sequence is the sum over its positions, each computed from its own history."""
    net = network()
    sequence = [0, 5, 3, 7]
    whole = net.loss(torch.tensor([sequence]), torch.tensor([4])).item() * 3
    with torch.no_grad():
        alone = [-log_likelihoods(net, sequence[:n], IDS)[sequence[n]] for n in (1, 2, 3)]
    assert whole == pytest.approx(sum(alone), abs=1e-4)


def test_padding_and_company_change_nothing() -> None:
    net = network()
    filler = len(IDS)
    one = net.loss(torch.tensor([[0, 5, 3]]), torch.tensor([3])) * 2
    two = net.loss(torch.tensor([[4, 1, 6, 7]]), torch.tensor([4])) * 3
    both = net.loss(torch.tensor([[0, 5, 3, filler], [4, 1, 6, 7]]), torch.tensor([3, 4])) * 5
    torch.testing.assert_close(both, one + two)
    rows = [[0, 5], [3], [7, 2, 4, 1], []]
    recommender = TigerRecommender(net)
    together = recommender.recommend(asked(*rows), 4)
    for number, row in enumerate(rows[:3]):
        assert recommender.recommend(asked(row), 4).items[0].tolist() == together.items[number].tolist()
    assert (together.items[:, 0] < 0).tolist() == [False, False, False, True]


def test_it_learns_the_ring_from_its_titles(write_tables, ring, tmp_path) -> None:
    """Semantic ids come from the items' names by the real encoder; the network learns the order."""
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    tiger = TigerConfig(
        dim=32,
        layers=1,
        heads=2,
        dropout=0.0,
        ids=SemanticIdConfig(levels=2, codes=16, epochs=30, batch_size=64),
        training=TrainingConfig(epochs=25, batch_size=16, learning_rate=1.0e-2, patience=0),
    )
    config = RetrieveConfig(models=("tiger",), tiger=tiger)
    recommender, log = models.fit("tiger", config, data, data.train(), data.queries("valid"), -1, tmp_path)
    popularity = models.Popularity(models.item_counts(data.train(), data.num_items))
    reached, plain = (validation_ndcg(model, data.queries("test")) for model in (recommender, popularity))
    assert log.losses[-1] < log.losses[0]
    assert reached > 3 * plain
