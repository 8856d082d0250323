"""A small Transformer encoder that classifies sequences of tokens.

Vaswani et al. Attention Is All You Need. NIPS 2017. arXiv:1706.03762. Sizes, learned positions and
norms behind each sum as in HeteroFL (Diao, Ding, Tarokh. ICLR 2021).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Attention whose heads keep their number at every width.

    Queries, keys and values are layers of their own, cut into heads by a view that leaves the size
    of a head open; scores are divided by the root of the size that it has.
    """

    def __init__(self, embedding: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(embedding, embedding)
        self.key = nn.Linear(embedding, embedding)
        self.value = nn.Linear(embedding, embedding)
        self.out = nn.Linear(embedding, embedding)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, embedding) to the same shape."""
        batch, time = x.shape[0], x.shape[1]
        shape = (batch, time, self.heads, -1)
        query = self.query(x).view(shape).transpose(1, 2)
        key = self.key(x).view(shape).transpose(1, 2)
        value = self.value(x).view(shape).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(query, key, value)
        attended: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, time, -1))
        return attended


class EncoderLayer(nn.Module):
    """Self-attention and two linear layers, each added to what arrived and normalised."""

    def __init__(self, embedding: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = SelfAttention(embedding, heads)
        self.norm1 = nn.LayerNorm(embedding)
        self.linear1 = nn.Linear(embedding, hidden)
        self.linear2 = nn.Linear(hidden, embedding)
        self.norm2 = nn.LayerNorm(embedding)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, embedding) to the same shape."""
        x = self.norm1(x + self.dropout(self.attention(x)))
        between = self.linear2(self.dropout(F.gelu(self.linear1(x))))
        encoded: Tensor = self.norm2(x + self.dropout(between))
        return encoded


class Transformer(nn.Module):
    """Tokens and positions embedded, encoder layers, a mean over positions, and a linear head."""

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        length: int,
        embedding: int,
        heads: int,
        hidden: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, embedding)
        self.positions = nn.Embedding(length, embedding)
        self.norm = nn.LayerNorm(embedding)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            *(EncoderLayer(embedding, heads, hidden, dropout) for _ in range(layers))
        )
        self.head = nn.Linear(embedding, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Token numbers of shape (N, T), T at most `length`, to scores of shape (N, classes)."""
        places = torch.arange(x.shape[1], device=x.device)
        embedded = self.norm(self.tokens(x.long()) + self.positions(places))
        scores: Tensor = self.head(self.layers(self.dropout(embedded)).mean(1))
        return scores


def transformer(
    vocabulary: int,
    classes: int,
    length: int = 64,
    *,
    embedding: int = 256,
    heads: int = 8,
    hidden: int = 512,
    layers: int = 4,
    dropout: float = 0.2,
) -> Transformer:
    """An encoder for inputs of shape (N, T) of token numbers, as integers or as float32.

    A submodel of width r keeps ceil(r * embedding) of the embedding, ceil(r * hidden) hidden units
    in each layer, and ceil(r * embedding / heads) channels of every head.

    Args:
        vocabulary: number of tokens.
        classes: number of classes; the vocabulary's size predicts a token.
        length: the longest sequence.
        embedding: width of an embedded token, a multiple of `heads`.
        heads: attention heads a layer.
        hidden: units between the two linear layers.
        layers: encoder layers.
        dropout: share of values that torch's dropout sets to 0 in training.
    """
    return Transformer(vocabulary, classes, length, embedding, heads, hidden, layers, dropout)
