"""TIGER: the next item's semantic id, written word by word (Rajput et al. 2023, section 3.2).

Simplified so that one pass over a sequence teaches every position of it: the encoder is causal and reads
an item as the sum of its code words, and the decoder of a position looks at the positions up to it. There
are no user tokens.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.retrieve.config import TigerConfig
from components.retrieve.interactions import Examples, Histories, Ints
from components.retrieve.networks.attention import Block, Encoder
from components.retrieve.networks.next_item import initialise
from components.retrieve.networks.training import SequenceNetwork, pad
from components.retrieve.ranking import Ranked, Recommender, held

BEAMS = 8192
"""Beams of all histories that are searched at a time."""


class CodeTree(nn.Module):
    """Which code words may follow which: the semantic ids of the catalogue as a tree, a word an edge.

    Of each level: edges sorted by the node that they leave, `first` [nodes + 1] that node's first edge,
    `word` [edges] the code word, `leads` [edges] the next level's node, or the item at the end.
    """

    def __init__(self, ids: Ints) -> None:
        super().__init__()
        self.widths = [int(width) + 1 for width in ids.max(0)]
        node = np.zeros(len(ids), np.int64)
        for level, width in enumerate(self.widths):
            edges, edge_of_item = np.unique(node * width + ids[:, level], return_inverse=True)
            leads = np.arange(len(edges))
            if level == len(self.widths) - 1:
                leads[edge_of_item] = np.arange(len(ids))
            first = np.searchsorted(edges // width, np.arange(node.max() + 2))
            for name, table in (("first", first), ("word", edges % width), ("leads", leads)):
                self.register_buffer(f"{name}_{level}", torch.from_numpy(table), persistent=False)
            node = edge_of_item

    def edges(self, level: int, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return words and next nodes of the edges leaving `node` [...], and which are real: [..., most]."""
        first = self.get_buffer(f"first_{level}")
        word, leads = (self.get_buffer(f"{name}_{level}") for name in ("word", "leads"))
        begin, end = first[node.clamp(min=0)], first[node.clamp(min=0) + 1]
        edge = begin[..., None] + torch.arange(int((end - begin).max()), device=node.device)
        real = (edge < end[..., None]) & (node >= 0)[..., None]
        edge = edge.clamp(max=len(word) - 1)
        return word[edge], leads[edge], real


class DecoderBlock(nn.Module):
    """A layer that looks at the code words written so far, then at the history."""

    def __init__(self, words: int, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = Block(words, dim, heads, dropout)
        self.norm, self.heads, self.dropout = nn.LayerNorm(dim), heads, dropout
        self.query, self.key_value, self.out = (
            nn.Linear(dim, dim),
            nn.Linear(dim, 2 * dim),
            nn.Linear(dim, dim),
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, seen: Tensor, at: Tensor | None = None) -> Tensor:
        """Map [rows, places, words, dim] to the same shape, with `at` [1] that word alone.

        `memory` [rows, length, dim] is what the encoder made of the history; `seen` of bool, fit for [rows,
        places, length], says which of it a place looks at.
        """
        rows, places, _, dim = x.shape
        x = self.own(x.flatten(0, 1), None, at).unflatten(0, (rows, places))
        words = x.shape[2]
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
        widths = self.tree.widths
        # Every level has words of its own; the last row stands for padding and for "begin".
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
        initialise(self)

    def recommender(self, device: torch.device) -> "TigerRecommender":
        """Return what answers with this network."""
        return TigerRecommender(self, device)

    def encode(self, items: Tensor) -> Tensor:
        """Return [rows, length, dim] for items [rows, length]; a place sees itself and those before it."""
        return self.encoder(self.words(self.ids[items]).sum(2))

    def decode(self, written: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """Return [rows, places, words, dim] after the words `written` [rows, places, words]."""
        x = self._read(written, 0)
        for block in self.blocks:
            x = block(x, memory, seen)
        return x

    def decode_next(
        self, told: Tensor, before: list[Tensor], memory: Tensor, seen: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `decode` gives for one more word `told` [rows, places], [rows, places, dim].

        `before` holds what each layer was given for the words written so far, [rows, places, words, dim];
        returned is what it was given with the new one. It is empty at the first word.
        """
        level = before[0].shape[2] if before else 0
        x, at = self._read(told[..., None], level), torch.tensor([level], device=told.device)
        given = []
        for number, block in enumerate(self.blocks):
            given.append(torch.cat([before[number], x], 2) if before else x)
            x = block(given[-1], memory, seen, at)
        return x[:, :, 0], given

    def _read(self, written: Tensor, level: int) -> Tensor:
        """Return the embeddings of the words `written` [rows, places, words], from `level` on."""
        levels = self.levels.weight[level : level + written.shape[2]]
        return self.drop(self.norm(self.words(written) + levels))

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
        lengths = asked.histories.lengths
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        blocks = 1 + len(order) * _beams(asked.histories, depth) // BEAMS
        for rows in np.array_split(order, blocks) if len(order) else ():
            found = self._search(asked.histories.take(rows), depth)
            lists.items[rows], lists.scores[rows] = found.items, found.scores
        return lists

    def _search(self, histories: Histories, depth: int) -> Ranked:
        """Search with `depth` beams, and some more for items that the history holds."""
        net = self.network
        items, lengths = pad(histories.last(net.max_length), net.num_items, self.device)
        memory = net.encode(items)
        seen = (torch.arange(items.shape[1], device=self.device) < lengths[:, None])[:, None]
        beams = _beams(histories, depth)
        told, score = net.begin(len(items), 1)[..., 0], torch.zeros(len(items), 1, device=self.device)
        node = torch.zeros(len(items), 1, dtype=torch.long, device=self.device)
        given, came_from = list[Tensor](), node[..., None, None]
        for level, (low, _) in enumerate(net.splits):
            given = [x.gather(1, came_from.expand(-1, -1, *x.shape[2:])) for x in given]
            states, given = net.decode_next(told, given, memory, seen)
            word, leads, real = net.tree.edges(level, node)
            likely = net.logits(states, level).float().log_softmax(-1).gather(2, word) + score[..., None]
            likely = likely.masked_fill(~real, -torch.inf)
            score, best = likely.flatten(1).topk(min(beams, likely[0].numel()))
            node = leads.flatten(1).gather(1, best).masked_fill(score == -torch.inf, -1)
            told = word.flatten(1).gather(1, best) + low
            came_from = (best // word.shape[-1])[..., None, None]
        return _unseen(node.cpu().numpy(), score.cpu().numpy(), histories, depth, net.num_items)


def _beams(histories: Histories, depth: int) -> int:
    """Return how many beams a search keeps: at most twice `depth`, so that one long history is no burden.

    A history of more than `depth` items may so be left with a list that is shorter than `depth`.
    """
    return depth + min(depth, int(histories.lengths.max(initial=0)))


def _unseen(items: Ints, scores: np.ndarray, histories: Histories, depth: int, num_items: int) -> Ranked:
    """Return the first `depth` of the found items [rows, beams] that each history lacks, ties by index."""
    scores = np.where((items < 0) | held(histories, items, num_items), -np.inf, scores)
    order = np.lexsort((items, -scores), axis=1)[:, :depth]
    items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
    lists = Ranked.nothing(len(items), depth)
    lists.items[:, : items.shape[1]] = np.where(scores == -np.inf, -1, items)
    lists.scores[:, : items.shape[1]] = scores
    return lists
