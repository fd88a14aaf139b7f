"""Of histories without any order or taste, no recommender learns more than chance."""

import numpy as np
import pytest

from components.retrieve.config import MODELS, RetrieveConfig
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
from components.retrieve.models import factory
from components.retrieve.report import accuracy
from components.retrieve.tables import load

USERS, ITEMS, LENGTH = 500, 100, 8
TRAINING = TrainingConfig(epochs=2, batch_size=64)
NETWORK = {"dim": 16, "layers": 1, "training": TRAINING}
CONFIG = RetrieveConfig(
    sasrec=SasrecConfig(**NETWORK),
    sasrec_text=SasrecConfig(**NETWORK),
    sasrec_bce=SasrecConfig(**NETWORK),
    bsarec=BsarecConfig(**NETWORK),
    gru4rec=NextItemConfig(**NETWORK),
    bert4rec=Bert4recConfig(**NETWORK),
    fdsa=FdsaConfig(**NETWORK),
    s3rec=S3recConfig(**NETWORK, pretraining=TrainingConfig(epochs=1)),
    tiger=TigerConfig(**NETWORK, ids=SemanticIdConfig(levels=2, codes=8, epochs=3)),
)


@pytest.mark.parametrize("name", [name for name in MODELS if "blend" not in name and name != "online"])
def test_pure_noise_scores_chance(name, write_tables, tmp_path) -> None:
    generator = np.random.default_rng(3)
    ids = [f"i{item:03d}" for item in range(ITEMS)]
    sequences = {f"u{user}": generator.permutation(ids)[:LENGTH].tolist() for user in range(USERS)}
    tags = {item: [f"tag {generator.integers(9)}"] for item in ids}
    inputs = write_tables(sequences, ids, tags=tags)
    data = load(inputs["sequences"], inputs["catalogue"])
    model, _ = factory.fit(name, CONFIG, data, data.train(), data.queries("valid"), -1, tmp_path)
    test = data.queries("test")
    chance = 10 / (ITEMS - LENGTH + 1)
    error = np.sqrt(chance * (1 - chance) / USERS)
    assert abs(accuracy(model.recommend(test, 10), test)["recall@10"] - chance) < 4 * error
