"""Networks in the served folder: their weights, and what else builds them anew."""

import torch

from components.retrieve.config import RetrieveConfig
from components.retrieve.interactions import Histories
from components.retrieve.models import factory
from components.retrieve.models.sasrec_text import SasrecText
from components.retrieve.models.tiger.model import Tiger, TigerRecommender
from components.retrieve.networks.item_network import NetworkRecommender
from components.retrieve.ranking import Recommender
from components.retrieve.served.arrays import ArrayReader, ArrayWriter, Spec

KIND = "network"


def describe(writer: ArrayWriter, name: str, model: Recommender) -> Spec | None:
    """Return the description of `model` if it is a network."""
    if not isinstance(model, NetworkRecommender | TigerRecommender):
        return None
    network, vectors, kinds, ids = model.network, None, None, None
    if isinstance(network, SasrecText):
        vectors, kinds = network.vectors[:-1], network.kinds[:-1]
    if isinstance(network, Tiger):
        ids = (network.ids[:-1].cpu() - torch.tensor([low for low, _ in network.splits])).numpy()
    return {
        "kind": KIND,
        "weights": writer.mapping(f"models.{name}.weights", network.state_dict()),
        "vectors": writer.add(f"models.{name}.vectors", vectors),
        "kinds": writer.add(f"models.{name}.kinds", kinds),
        "ids": writer.add(f"models.{name}.ids", ids),
    }


def restore(
    reader: ArrayReader, name: str, spec: Spec, config: RetrieveConfig, num_items: int, tags: Histories
) -> Recommender:
    """Return the recommender that `spec` describes."""
    ids, vectors, kinds = (reader.get(spec[part]) for part in ("ids", "vectors", "kinds"))
    with torch.random.fork_rng():
        network = factory.network(name, config, num_items, tags, ids, vectors, kinds)
    weights = {key: reader.get(array) for key, array in spec["weights"].items()}
    network.load_state_dict(weights, assign=True)
    return network.recommender()
