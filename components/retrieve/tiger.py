"""TIGER: the next item's semantic id, written word by word (Rajput et al. 2023, section 3.2).

Simplified so that one pass over a sequence teaches every position of it: the encoder is causal and reads
an item as the sum of its code words, and the decoder of a position looks at the positions up to it. There
are no user tokens.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.attention import Block, Encoder
from components.retrieve.config import TigerConfig
from components.retrieve.interactions import Examples, Histories, Ints
from components.retrieve.next_item import initialise
from components.retrieve.ranking import Ranked, Recommender
from components.retrieve.training import SequenceNetwork, pad

ROWS = 64
"""Histories that a beam search answers at a time."""


class CodeTree(nn.Module):
    """Which code words may follow which: the semantic ids of the catalogue as a tree.

    `follows(level)` [nodes of the level, words] holds the next level's node, or the item at the end; -1
    where no item goes on so. Nodes are numbered in the order of their words.
    """

    def __init__(self, ids: Ints) -> None:
        super().__init__()
        self.levels = ids.shape[1]
        self.words = [int(width) + 1 for width in ids.max(0)]
        node = np.zeros(len(ids), np.int64)
        for level, width in enumerate(self.words):
            key = node * width + ids[:, level]
            last = level == self.levels - 1
            follow = np.arange(len(ids)) if last else np.unique(key, return_inverse=True)[1]
            table = np.full((int(node.max()) + 1) * width, -1, np.int32)
            table[key] = follow
            self.register_buffer(
                f"follows_{level}", torch.from_numpy(table).view(-1, width), persistent=False
            )
            node = follow

    def follows(self, level: int) -> Tensor:
        """Return the table of `level`."""
        return self.get_buffer(f"follows_{level}")


class DecoderBlock(nn.Module):
    """A layer that looks at the code words written so far, then at the history."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Block(dim, heads, dropout)
        self.norm, self.heads, self.dropout = nn.LayerNorm(dim), heads, dropout
        self.query, self.key_value, self.out = (
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """Map [rows, places, words, dim] to the same shape.

        `memory` [rows, length, dim] is what the encoder made of the history; `seen` of bool, fit for [rows,
        places, length], says which of it a place looks at.
        """
        rows, places, words, dim = x.shape
        x = self.own(x.reshape(rows * places, words, dim), None).view(rows, places, words, dim)
        queries = self.query(x).view(rows, places * words, self.heads, -1).transpose(1, 2)
        keys, values = self.key_value(memory).view(rows, -1, 2, self.heads, dim // self.heads).unbind(2)
        found = F.scaled_dot_product_attention(
            queries,
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=seen.repeat_interleave(words, 1)[:, None],
            dropout_p=self.dropout if self.training else 0.0,
        )
        found = self.out(found.transpose(1, 2).reshape(rows, places, words, dim))
        return self.norm(x + self.drop(found))


class Tiger(SequenceNetwork):
    """An encoder of the history and a decoder of the next item's code words; `ids` [items, words]."""

    ids: Tensor

    def __init__(self, ids: Ints, config: TigerConfig) -> None:
        super().__init__()
        self.num_items, self.max_length = len(ids), config.max_length
        self.tree = CodeTree(ids)
        widths = self.tree.words
        # Every level has words of its own; the last row stands for padding and for "begin".
        offsets = np.cumsum([0, *widths[:-1]])
        filler = np.full((1, len(widths)), sum(widths))
        self.register_buffer("ids", torch.from_numpy(np.vstack([ids + offsets, filler])), persistent=False)
        self.splits = [(int(o), int(o + w)) for o, w in zip(offsets, widths, strict=True)]
        self.words = nn.Embedding(sum(widths) + 1, config.dim)
        self.encoder = Encoder(config.max_length, config.dim, config.layers, config.heads, config.dropout)
        self.levels = nn.Embedding(len(widths), config.dim)
        self.blocks = nn.ModuleList(
            DecoderBlock(config.dim, config.heads, config.dropout) for _ in range(config.layers)
        )
        self.norm, self.drop = nn.LayerNorm(config.dim), nn.Dropout(config.dropout)
        self.bias = nn.Parameter(torch.zeros(sum(widths)))
        initialise(self)

    def recommender(self, device: torch.device) -> "TigerRecommender":
        """Return what answers with this network."""
        return TigerRecommender(self, device)

    def encode(self, items: Tensor) -> Tensor:
        """Return [rows, length, dim] for items [rows, length]; a place sees itself and those before it."""
        return self.encoder(self.words(self.ids[items]).sum(2))

    def decode(self, written: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """Return [rows, places, words, dim] after the words `written` [rows, places, words]."""
        x = self.drop(self.norm(self.words(written) + self.levels.weight[: written.shape[2]]))
        for block in self.blocks:
            x = block(x, memory, seen)
        return x

    def logits(self, states: Tensor, level: int) -> Tensor:
        """Return the scores of each word of `level` for states [..., dim]."""
        low, high = self.splits[level]
        return states @ self.words.weight[low:high].T + self.bias[low:high]

    def begin(self, rows: int, places: int) -> Tensor:
        """Return the word before the first one, [rows, places, 1]."""
        return self.ids.new_full((rows, places, 1), self.words.num_embeddings - 1)

    def loss(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of each next item: the sum over its words."""
        inputs, targets = items[:, :-1], items[:, 1:]
        rows, places = inputs.shape
        seen = torch.ones(places, places, dtype=torch.bool, device=items.device).tril().expand(rows, -1, -1)
        words = self.ids[targets]
        written = torch.cat([self.begin(rows, places), words[..., :-1]], 2)
        states = self.decode(written, self.encode(inputs), seen)
        real = targets != self.num_items
        states, words = states[real], words[real]
        losses = [
            F.cross_entropy(self.logits(states[:, level], level).float(), words[:, level] - low)
            for level, (low, _) in enumerate(self.splits)
        ]
        return torch.stack(losses).sum()


class TigerRecommender(Recommender):
    """Ranks by beam search over the semantic ids that the catalogue has."""

    def __init__(self, network: Tiger, device: torch.device) -> None:
        self.network, self.device = network.eval(), device

    @torch.no_grad()
    def answer(self, asked: Examples, depth: int) -> Ranked:
        """Return the likeliest unseen items by log-likelihood; an empty history tells nothing."""
        lists = Ranked.nothing(len(asked), depth)
        lengths = np.minimum(asked.histories.lengths, self.network.max_length)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            found = self._search(asked.histories.take(rows), depth)
            lists.items[rows], lists.scores[rows] = found.items, found.scores
        return lists

    def _search(self, histories: Histories, depth: int) -> Ranked:
        """Search with `depth` beams, and one more for each item that the longest history holds."""
        net, tree = self.network, self.network.tree
        items, lengths = pad(histories.last(net.max_length), net.num_items, self.device)
        memory = net.encode(items)
        seen = (torch.arange(items.shape[1], device=self.device) < lengths[:, None])[:, None]
        beams = depth + int(histories.lengths.max())
        written, score = net.begin(len(items), 1), torch.zeros(len(items), 1, device=self.device)
        node = torch.zeros(len(items), 1, dtype=torch.long, device=self.device)
        for level, (low, _) in enumerate(net.splits):
            states = net.decode(written, memory, seen.expand(-1, written.shape[1], -1))[:, :, -1]
            follow = tree.follows(level)[node.clamp(min=0)].long()
            likely = score[..., None] + net.logits(states, level).float().log_softmax(-1)
            likely = likely.masked_fill((follow < 0) | (node < 0)[..., None], -torch.inf)
            score, best = likely.flatten(1).topk(min(beams, likely[0].numel()))
            node = follow.flatten(1).gather(1, best).masked_fill(score == -torch.inf, -1)
            came_from = best // follow.shape[-1]
            word = best % follow.shape[-1] + low
            before = written.gather(1, came_from[..., None].expand(-1, -1, written.shape[2]))
            written = torch.cat([before, word[..., None]], 2)
        return _unseen(node.cpu().numpy(), score.cpu().numpy(), histories, depth, net.num_items)


def _unseen(items: Ints, scores: np.ndarray, histories: Histories, depth: int, num_items: int) -> Ranked:
    """Return the first `depth` of the found items [rows, beams] that each history lacks, ties by index."""
    rows, seen = histories.flat()
    keys = np.arange(len(items))[:, None] * num_items + items
    scores = np.where((items < 0) | np.isin(keys, rows * num_items + seen), -np.inf, scores)
    order = np.lexsort((items, -scores), axis=1)[:, :depth]
    items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
    lists = Ranked.nothing(len(items), depth)
    lists.items[:, : items.shape[1]] = np.where(scores == -np.inf, -1, items)
    lists.scores[:, : items.shape[1]] = scores
    return lists
