"""TIGER: generates the next item's semantic id (Rajput et al. 2023, section 3.2).

Simplified so that one pass over a sequence trains every position: the encoder is causal and reads an item
as the sum of its code words, and the decoder of a position attends to the positions up to it. There are no
user tokens.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.interactions import Histories, Ints, Queries
from components.retrieve.model_config import TigerConfig
from components.retrieve.networks.attention import Block, Encoder
from components.retrieve.networks.item_network import init_weights
from components.retrieve.networks.training import SequenceNetwork, pad
from components.retrieve.ranking import RankedLists, Recommender, contains

BEAMS = 8192
"""Beams searched at a time, over all histories."""


class CodeTree(nn.Module):
    """The prefix tree of the catalogue's semantic ids, with one edge per code word.

    Per level, edges are sorted by parent: `first` [nodes + 1] is a parent's first edge, `word` [edges] the
    code word, `child` [edges] the next level's node, at the last level the item.
    """

    def __init__(self, ids: Ints) -> None:
        super().__init__()
        self.widths = [int(width) + 1 for width in ids.max(0)]
        node = np.zeros(len(ids), np.int64)
        for level, width in enumerate(self.widths):
            edges, edge_of_item = np.unique(node * width + ids[:, level], return_inverse=True)
            child = np.arange(len(edges))
            if level == len(self.widths) - 1:
                child[edge_of_item] = np.arange(len(ids))
            first = np.searchsorted(edges // width, np.arange(node.max() + 2))
            for name, table in (("first", first), ("word", edges % width), ("child", child)):
                self.register_buffer(f"{name}_{level}", torch.from_numpy(table), persistent=False)
            node = edge_of_item

    def edges(self, level: int, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return words and children of `node`'s edges, and which are real: [..., most]."""
        first, word, child = (self.get_buffer(f"{name}_{level}") for name in ("first", "word", "child"))
        begin, end = first[node.clamp(min=0)], first[node.clamp(min=0) + 1]
        edge = begin[..., None] + torch.arange(int((end - begin).max()), device=node.device)
        real = (edge < end[..., None]) & (node >= 0)[..., None]
        edge = edge.clamp(max=len(word) - 1)
        return word[edge], child[edge], real


class DecoderBlock(nn.Module):
    """A layer that attends to the code words generated so far, then to the history."""

    def __init__(self, words: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Block(words, dim, heads, dropout)
        self.norm, self.heads, self.dropout = nn.LayerNorm(dim), heads, dropout
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor, at: Tensor | None = None) -> Tensor:
        """Map [rows, positions, words, dim] to the same shape, with `at` [1] that word alone.

        A position attends to where `visible` [rows, 1 or positions, length] is True in the encoded history
        `memory` [rows, length, dim].
        """
        rows, positions, _, dim = x.shape
        x = self.own(x.flatten(0, 1), None, at).unflatten(0, (rows, positions))
        words = x.shape[2]
        queries = self.query(x).view(rows, positions * words, self.heads, -1).transpose(1, 2)
        keys, values = self.key_value(memory).view(rows, -1, 2, self.heads, dim // self.heads).unbind(2)
        attended = F.scaled_dot_product_attention(
            queries,
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=visible.repeat_interleave(words, 1)[:, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = self.out(attended.transpose(1, 2).reshape(rows, positions, words, dim))
        return self.norm(x + self.drop(attended))


class Tiger(SequenceNetwork):
    """History encoder and decoder of the next item's code words; `ids` [items, words]."""

    ids: Tensor

    def __init__(self, ids: Ints, config: TigerConfig) -> None:
        super().__init__()
        self.num_items, self.max_length = len(ids), config.max_length
        self.tree = CodeTree(ids)
        widths = self.tree.widths
        # Every level has its own words; the last row stands for padding and for the start token.
        offsets = np.cumsum([0, *widths[:-1]])
        filler = np.full((1, len(widths)), sum(widths))
        self.register_buffer("ids", torch.from_numpy(np.vstack([ids + offsets, filler])), persistent=False)
        self.splits = [(int(o), int(o + w)) for o, w in zip(offsets, widths, strict=True)]
        self.words = nn.Embedding(sum(widths) + 1, config.dim)
        self.encoder = Encoder(config.max_length, config.dim, config.layers, config.heads, config.dropout)
        self.levels = nn.Embedding(len(widths), config.dim)
        self.blocks = nn.ModuleList(
            DecoderBlock(len(widths), config.dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm, self.drop = nn.LayerNorm(config.dim), nn.Dropout(config.dropout)
        self.bias = nn.Parameter(torch.zeros(sum(widths)))
        init_weights(self)

    def recommender(self) -> "TigerRecommender":
        """Return the beam-search recommender of this network."""
        return TigerRecommender(self)

    def encode(self, items: Tensor) -> Tensor:
        """Return [rows, length, dim] for items [rows, length]; attention is causal."""
        return self.encoder(self.words(self.ids[items]).sum(2))

    def decode(self, words: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        """Return states [rows, positions, words, dim] after `words` [rows, positions, words]."""
        x = self._embed(words, 0)
        for block in self.blocks:
            x = block(x, memory, visible)
        return x

    def decode_next(
        self, word: Tensor, cache: list[Tensor], memory: Tensor, visible: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the state [rows, positions, dim] of `decode` for one more `word` [rows, positions].

        `cache` holds each layer's inputs for the words before it (none: empty); returned with the new ones.
        """
        level = cache[0].shape[2] if cache else 0
        x, at = self._embed(word[..., None], level), torch.tensor([level], device=word.device)
        inputs = []
        for number, block in enumerate(self.blocks):
            inputs.append(torch.cat([cache[number], x], 2) if cache else x)
            x = block(inputs[-1], memory, visible, at)
        return x[:, :, 0], inputs

    def _embed(self, words: Tensor, level: int) -> Tensor:
        """Return the embeddings of `words` [rows, positions, words], the first of which is of `level`."""
        levels = self.levels.weight[level : level + words.shape[2]]
        return self.drop(self.norm(self.words(words) + levels))

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Return the scores of each word of `level` for states [..., dim]."""
        low, high = self.splits[level]
        return states @ self.words.weight[low:high].T + self.bias[low:high]

    def start(self, rows: int, positions: int) -> Tensor:
        """Return the start token, [rows, positions, 1]."""
        return self.ids.new_full((rows, positions, 1), self.words.num_embeddings - 1)

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of each next item: the sum over its words."""
        inputs, targets = items[:, :-1], items[:, 1:]
        rows, length = inputs.shape
        causal = torch.ones(length, length, dtype=torch.bool, device=items.device).tril().expand(rows, -1, -1)
        words = self.ids[targets]
        shifted = torch.cat([self.start(rows, length), words[..., :-1]], 2)
        states = self.decode(shifted, self.encode(inputs), causal)
        real = targets != self.num_items
        states, words = states[real], words[real]
        losses = [
            F.cross_entropy(self.logits(states[:, level], level).float(), words[:, level] - low)
            for level, (low, _) in enumerate(self.splits)
        ]
        return torch.stack(losses).sum()


class TigerRecommender(Recommender):
    """Ranks by beam search over the semantic ids of the catalogue."""

    def __init__(self, network: Tiger) -> None:
        self.network = network.eval()

    @torch.no_grad()
    def recommend(self, queries: Queries, depth: int) -> RankedLists:
        """Return the unseen items by log-likelihood; empty lists for empty histories."""
        lists = RankedLists.empty(len(queries), depth)
        beams = _beams(queries.histories.lengths, depth)
        for width in np.unique(beams[beams > 0]).tolist():
            of_width = np.flatnonzero(beams == width)
            for rows in np.array_split(of_width, 1 + len(of_width) * width // BEAMS):
                best = self._search(queries.histories.take(rows), depth, width)
                lists.items[rows], lists.scores[rows] = best.items, best.scores
        return lists

    def _search(self, histories: Histories, depth: int, beams: int) -> RankedLists:
        """Return the best `depth` unseen items that `beams` beams find."""
        net, device = self.network, self.network.ids.device
        items, lengths = pad(histories.last(net.max_length), net.num_items, device)
        memory = net.encode(items)
        visible = (torch.arange(items.shape[1], device=device) < lengths[:, None])[:, None]
        word, score = net.start(len(items), 1)[..., 0], memory.new_zeros(len(items), 1)
        node = torch.zeros_like(word)
        cache, parent = list[Tensor](), node[..., None, None]
        for level, (low, _) in enumerate(net.splits):
            cache = [x.gather(1, parent.expand(-1, -1, *x.shape[2:])) for x in cache]
            states, cache = net.decode_next(word, cache, memory, visible)
            words, children, real = net.tree.edges(level, node)
            total = net.logits(states, level).float().log_softmax(-1).gather(2, words) + score[..., None]
            total = total.masked_fill(~real, -torch.inf)
            score, best = total.flatten(1).topk(min(beams, total[0].numel()))
            node = children.flatten(1).gather(1, best).masked_fill(score == -torch.inf, -1)
            word = words.flatten(1).gather(1, best) + low
            parent = (best // words.shape[-1])[..., None, None]
        found, scores = node.cpu().numpy(), score.cpu().numpy()
        is_excluded = (found < 0) | contains(histories, found)
        return RankedLists.best(found, np.where(is_excluded, -np.inf, scores), depth)


def _beams(lengths: Ints, depth: int) -> Ints:
    """Return beam widths that leave `depth` unseen items; 0 without a history.

    At most twice `depth`. A width is that of histories up to the next power of two: the others of a block
    must not change a list.
    """
    spare = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    return np.where(lengths > 0, depth + np.minimum(depth, spare), 0)
