import dataclasses
import logging
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Histories
from components.retrieve.model_config import (
    Bert4recConfig,
    BsarecConfig,
    FdsaConfig,
    NextItemConfig,
    S3recConfig,
    SasrecConfig,
    SemanticIdConfig,
    TigerConfig,
    TrainingConfig,
)
from components.retrieve.models import factory as models
from components.retrieve.models.fdsa import rarest_attributes
from components.retrieve.models.s3rec import Pretraining
from components.retrieve.networks import training
from components.retrieve.networks.item_network import NetworkRecommender
from components.retrieve.networks.training import (
    SequenceNetwork,
    batches,
    pad,
    train,
    validation_ndcg,
)
from components.retrieve.ranking import contains, ndcg
from components.retrieve.tables import load
from components.shared.errors import TrainingError
from components.shared.language_model.dtype import bfloat16_matmul, cpu_multiplies_bfloat16

NETWORKS = ("sasrec", "sasrec_text", "sasrec_bce", "bsarec", "gru4rec", "bert4rec", "fdsa", "s3rec")
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
    recurrent = NextItemConfig(**shared, training=small.training)
    attended = {**shared, "heads": small.heads, "training": small.training}
    return RetrieveConfig(
        sasrec=small,
        sasrec_text=SasrecConfig(**attended),
        sasrec_bce=small,
        bsarec=BsarecConfig(**{**attended, "prefixes": True}),
        gru4rec=recurrent,
        bert4rec=Bert4recConfig(**{**attended, "prefixes": False}),
        fdsa=FdsaConfig(**attended),
        s3rec=S3recConfig(**attended, pretraining=dataclasses.replace(small.training, epochs=3)),
    )


def untrained(name: str, settings: RetrieveConfig, items: int = 30) -> SequenceNetwork:
    tags = histories(*([i % 4, 4 + i % 3] if i % 5 else [] for i in range(items)))
    vectors = torch.randn(items, 12) * (torch.arange(items) % 4 > 0)[:, None]
    kinds = torch.stack([torch.arange(items) % 3, 3 + torch.arange(items) % 5], 1)
    return models.network(name, settings, items, tags, vectors=vectors, kinds=kinds)


def histories(*rows: list[int]) -> Histories:
    ends = np.cumsum([len(row) for row in rows])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return Histories(flat, ends - [len(row) for row in rows], ends)


def fit(name: str, data, settings: RetrieveConfig):
    with tempfile.TemporaryDirectory() as folder:
        return models.fit(name, settings, data, data.train(), data.queries("valid"), -1, Path(folder))


def _ndcg(recommender, data, split: str) -> float:
    return validation_ndcg(recommender, data.queries(split))


def test_padding_goes_to_the_right() -> None:
    items, lengths = pad(histories([3, 4], [5], [6, 7, 8]), 9, CPU)
    assert items.tolist() == [[3, 4, 9], [5, 9, 9], [6, 7, 8]]
    assert lengths.tolist() == [2, 1, 3]


def test_every_sequence_comes_once_an_epoch() -> None:
    rows = [list(range(i, i + 2 + i % 5)) for i in range(50)]
    fed = batches(histories(*rows), 8, np.random.default_rng(0), 99, CPU)
    seen = [[i for i in row if i != 99] for items, _ in fed for row in items.tolist()]
    assert sorted(seen) == sorted(rows)


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_and_company_do_not_change_a_score(name) -> None:
    torch.manual_seed(0)
    recommender = NetworkRecommender(untrained(name, config()))
    sequences = [[1, 2, 3], [4], list(range(12)), [], [7, 8]]
    together = recommender.scores(histories(*sequences))
    for row, history in enumerate(sequences):
        torch.testing.assert_close(recommender.scores(histories(history))[0], together[row])
    assert together[3].abs().max() == 0
    torch.testing.assert_close(recommender.scores(histories(sequences[2][-8:]))[0], together[2])


@pytest.mark.parametrize("name", ["sasrec", "sasrec_text", "gru4rec", "fdsa", "s3rec"])
def test_a_position_never_sees_the_future(name) -> None:
    torch.manual_seed(0)
    network = untrained(name, config()).eval()
    one, other = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 2, 9, 30]])
    torch.testing.assert_close(network.encode(one)[:, :2], network.encode(other)[:, :2])


@pytest.mark.parametrize("name", ["sasrec", "sasrec_text", "bsarec", "gru4rec", "fdsa", "s3rec"])
def test_a_place_asked_alone_is_as_among_all(name) -> None:
    torch.manual_seed(0)
    settings = config(layers=2)
    network = untrained(name, settings).eval()
    items, at = torch.tensor([[1, 2, 3, 4], [5, 6, 30, 30], [7, 8, 9, 30]]), torch.tensor([3, 1, 0])
    torch.testing.assert_close(network.encode(items, at), network.encode(items)[torch.arange(3), at])


@pytest.mark.parametrize("name", ["sasrec", "sasrec_text", "sasrec_bce", "gru4rec", "fdsa", "s3rec"])
def test_prefixes_have_the_loss_of_the_window_they_are_cut_from(name, monkeypatch) -> None:
    monkeypatch.setattr(torch, "randint", lambda high, shape, device: torch.full(shape, 7))
    rows = histories([1, 2, 3, 4, 5], [6, 7], [8, 9, 10])
    losses = []
    for prefixes in (False, True):
        torch.manual_seed(0)
        network = untrained(name, config(prefixes=prefixes)).eval()
        cut = network.training_sequences(rows)
        losses.append(network.loss(*pad(cut, 30, CPU)).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_long_prefix_is_cut_to_what_the_network_sees() -> None:
    torch.manual_seed(0)
    network = untrained("sasrec", config(prefixes=True)).eval()
    long, short = (network.training_sequences(histories(list(range(start, 12)))) for start in (0, 3))
    assert long.lengths.max() == network.max_length + 1
    last = [pad(pieces.take(np.array([len(pieces) - 1])), 30, CPU) for pieces in (long, short)]
    assert network.loss(*last[0]).item() == network.loss(*last[1]).item()


def test_bert4rec_refuses_prefixes() -> None:
    with pytest.raises(ValueError, match="prefixes must be false"):
        Bert4recConfig(prefixes=True)


@pytest.mark.parametrize("name", ["sasrec", "sasrec_bce"])
def test_two_threads_give_the_same_gradients_every_time(name) -> None:
    torch.manual_seed(0)
    settings = dataclasses.replace(TINY, max_length=50, prefixes=True, dropout=0.0)
    network = untrained(name, dataclasses.replace(config(), sasrec=settings, sasrec_bce=settings), items=60)
    rows = histories(*([(i + j) % 60 for j in range(40)] for i in range(512)))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gradients = []
        for _ in range(4):
            torch.manual_seed(1)
            network.zero_grad()
            network.loss(*pad(rows, 60, CPU)).backward()
            gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    finally:
        torch.set_num_threads(threads)
    assert all(all(map(torch.equal, gradients[0], others)) for others in gradients[1:])


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("sasrec", {}, id="full softmax"),
        pytest.param("sasrec", {"negatives": 20}, id="sampled softmax"),
        pytest.param("sasrec", {"temperature": 0.1}, id="cosine"),
        pytest.param("sasrec_bce", {}, id="binary"),
        pytest.param("sasrec", {"prefixes": True}, id="prefixes"),
        pytest.param("bsarec", {}, id="frequencies"),
        pytest.param("gru4rec", {}, id="recurrent"),
        pytest.param(
            "bert4rec", {"training": dataclasses.replace(TINY.training, epochs=30)}, id="bidirectional"
        ),
        pytest.param("fdsa", {}, id="with attributes"),
        pytest.param("s3rec", {}, id="pre-trained"),
    ],
)
def test_it_learns_the_ring(write_tables, ring, name, changes) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    recommender, log = fit(name, data, config(**changes))
    popularity = models.Popularity(models.item_counts(data.train(), data.num_items))
    assert log.losses[-1] < log.losses[0]
    assert _ndcg(recommender, data, "test") > 3 * _ndcg(popularity, data, "test")
    assert _ndcg(recommender, data, "valid") == pytest.approx(max(log.valid_ndcg))


def test_the_same_seed_gives_the_same_scores_and_leaves_torchs_state(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    test_histories = data.queries("test").histories
    first, second = (fit("sasrec", data, config(negatives=20))[0].scores(test_histories) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(1), expected)


def test_it_stops_when_validation_no_longer_improves(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    training = dataclasses.replace(TINY.training, learning_rate=1.0e-9, epochs=50, patience=2)
    _, log = fit("sasrec", data, config(training=training))
    assert log.best_epoch == 1
    assert len(log.losses) == 3


def test_users_without_a_history_do_not_choose_the_epoch(write_tables, ring, tmp_path) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    valid = data.queries("valid")
    half, seen = len(valid) // 2, valid.histories
    ends = np.where(np.arange(len(valid)) < half, seen.end, seen.start)
    newcomers = dataclasses.replace(valid, histories=Histories(seen.items, seen.start, ends))
    settings = config(training=dataclasses.replace(TINY.training, epochs=3))
    reached = [
        models.fit("sasrec", settings, data, data.train(), given, -1, tmp_path / name)[1].valid_ndcg
        for name, given in (("known", valid.take(np.arange(half))), ("mixed", newcomers))
    ]
    assert reached[0] == reached[1]
    assert max(reached[0]) > 0


def test_every_epoch_logs_its_progress(write_tables, ring, caplog) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    with caplog.at_level(logging.INFO, logger="recllm"):
        _, log = fit("sasrec", data, config(training=dataclasses.replace(TINY.training, epochs=2)))
    epochs = [record for record in caplog.records if hasattr(record, "done")]
    assert [(record.done, record.total) for record in epochs] == [(1, 2), (2, 2)]
    assert f"sasrec: loss {log.losses[1]:.4f}, valid ndcg@10 {log.valid_ndcg[1]:.4f}" in caplog.text


def test_the_learning_rate_falls_along_half_a_cosine() -> None:
    plan = TrainingConfig(epochs=5, learning_rate=0.1, schedule="cosine")
    rates = [training.learning_rate(plan, epoch) for epoch in (1, 2, 3, 4, 5)]
    half = 0.5 * 2**-0.5
    assert rates == pytest.approx([0.1, 0.1 * (0.5 + half), 0.05, 0.1 * (0.5 - half), 0.002])
    assert training.learning_rate(dataclasses.replace(plan, epochs=1), 1) == 0.1
    assert training.learning_rate(dataclasses.replace(plan, schedule="constant"), 4) == 0.1


def test_a_loss_that_is_no_number_names_the_knob(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    training = dataclasses.replace(TINY.training, learning_rate=1.0e30, clip_norm=0.0)
    with pytest.raises(TrainingError, match=r"is not finite in epoch 1; lower retrieve\.sasrec\.training\."):
        fit("sasrec", data, config(training=training))


@pytest.mark.parametrize("name", [*NETWORKS, "tiger"])
def test_weights_that_break_in_the_last_step_are_told(name, write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    only = TrainingConfig(epochs=1, batch_size=10_000, learning_rate=1.0e39)
    few = SemanticIdConfig(levels=2, codes=8, hidden=(), epochs=1)
    wild = dataclasses.replace(
        config(training=only), tiger=TigerConfig(dim=8, heads=2, ids=few, training=only)
    )
    section = "s3rec.pretraining" if name == "s3rec" else f"{name}.training"
    if name == "s3rec":
        calm = dataclasses.replace(wild.s3rec, training=TINY.training)
        wild = dataclasses.replace(wild, s3rec=dataclasses.replace(calm, pretraining=only))
    with pytest.raises(TrainingError, match=rf"is not finite in epoch 1; lower retrieve\.{section}\."):
        fit(name, data, wild)


def test_without_any_transition_it_stays_as_initialised(write_tables) -> None:
    inputs = write_tables({"a": ["x", "y", "z"], "b": ["y", "z", "x"]})
    data = load(inputs["sequences"], inputs["catalogue"])
    recommender, log = fit("sasrec", data, config())
    assert log.losses == []
    assert sorted(recommender.rank(data.queries("test").histories, 3).items[:, 0]) != [-1, -1]


def test_validation_ndcg_is_the_plain_mean(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    recommender, valid = (
        models.Popularity(models.item_counts(data.train(), data.num_items)),
        data.queries("valid"),
    )
    ranked = recommender.rank(valid.histories, 10)
    each = [
        next((1 / np.log2(r + 2) for r, item in enumerate(row) if item == label[0]), 0.0)
        for row, label in zip(ranked.items, valid.labels, strict=True)
    ]
    assert validation_ndcg(recommender, valid) == pytest.approx(np.mean(each))
    found = contains(valid.labels, ranked.items)
    assert ndcg(found, valid.labels.lengths, 10) == pytest.approx(each)


def test_bert4rec_reads_both_directions_but_no_hidden_item() -> None:
    torch.manual_seed(0)
    network = untrained("bert4rec", config()).eval()
    hidden, lengths = torch.tensor([[False, True, False]]), torch.tensor([3])
    encoded = [
        network.encode(torch.tensor([row]), hidden, lengths, at=torch.tensor([1]))
        for row in ([1, 2, 3], [1, 9, 3], [1, 2, 4])
    ]
    everywhere = network.encode(torch.tensor([[1, 2, 3]]), hidden, lengths)
    torch.testing.assert_close(encoded[0], everywhere[:, 1])
    torch.testing.assert_close(encoded[0], encoded[1])
    assert not torch.allclose(encoded[0], encoded[2])


def test_fdsa_tells_items_apart_by_their_attributes() -> None:
    torch.manual_seed(0)
    network = untrained("fdsa", config()).eval()
    same = network.attributes(torch.tensor([[1, 13, 2], [0, 30, 5]]))
    torch.testing.assert_close(same[0, 0], same[0, 1])  # 1 and 13 have the same attributes
    torch.testing.assert_close(same[1, 0], same[1, 1])  # item 0 has none, 30 is padding
    assert not torch.allclose(same[0, 0], same[0, 2])


def test_an_item_keeps_its_rarest_attributes() -> None:
    table = rarest_attributes(histories([0, 1, 2], [0, 1], [], [0]), 4, 3, most=2)
    assert table.tolist() == [[2, 1], [1, 0], [3, 3], [0, 3], [3, 3]]


def test_pretraining_lowers_its_loss_and_moves_the_network(write_tables, ring, tmp_path) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    settings = dataclasses.replace(config().s3rec, mask_share=0.4)
    longer = dataclasses.replace(settings.training, epochs=40)
    torch.manual_seed(0)
    network = untrained("s3rec", config(), data.num_items)
    before = network.items.weight.detach().clone()
    first = Pretraining(network, data.tags, settings)
    nobody = data.queries("valid").take(np.arange(0))
    key, file = "s3rec.pretraining", tmp_path / "saved.pt"
    _, log = train("pre-training", key, first, data.train(), nobody, longer, 0, CPU, file)
    assert log.losses[-1] < 0.9 * log.losses[0]
    assert not torch.equal(network.items.weight, before)


@pytest.mark.parametrize("name", ["sasrec", "s3rec"])
def test_a_killed_training_ends_as_if_it_had_never_stopped(
    write_tables, ring, name, tmp_path, monkeypatch
) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    settings = config(dropout=0.3, negatives=20)
    test_histories = data.queries("test").histories
    whole, log = fit(name, data, settings)
    true_epoch, calls = training._Training.run_epoch, iter(range(100))

    def killed(*args, **kwargs):
        if next(calls) % 4 == 3:
            raise KeyboardInterrupt
        return true_epoch(*args, **kwargs)

    monkeypatch.setattr(training._Training, "run_epoch", killed)
    resumed, kills = None, 0
    while resumed is None:
        try:
            resumed, log_of_resumed = models.fit(
                name, settings, data, data.train(), data.queries("valid"), -1, tmp_path
            )
        except KeyboardInterrupt:
            kills += 1
    assert kills > 1
    assert log_of_resumed.losses == log.losses
    assert torch.equal(resumed.scores(test_histories), whole.scores(test_histories))
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_checkpoint_is_told_and_training_begins_anew(write_tables, ring, tmp_path, caplog) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    arguments = ("sasrec", config(), data, data.train(), data.queries("valid"), -1, tmp_path / "saved")
    whole, log = models.fit(*arguments)
    (file,) = (tmp_path / "saved").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    anew, log_anew = models.fit(*arguments)
    assert f"{file.name} cannot be used" in caplog.text
    assert log_anew.losses == log.losses
    test_histories = data.queries("test").histories
    assert torch.equal(anew.scores(test_histories), whole.scores(test_histories))


@pytest.mark.skipif(not cpu_multiplies_bfloat16(), reason="the CPU has no bfloat16 instructions")
def test_bfloat16_is_for_products_of_training_steps_alone(write_tables, ring) -> None:
    inputs = write_tables(ring)
    data = load(inputs["sequences"], inputs["catalogue"])
    exact, low = (
        dataclasses.replace(TINY.training, epochs=3, dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    losses = {t.dtype: fit("sasrec", data, config(training=t))[1].losses for t in (exact, low)}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=1e-2)
    assert torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(KeyboardInterrupt), bfloat16_matmul(True):
        raise KeyboardInterrupt
    assert torch.get_float32_matmul_precision() == "highest"
