"""Small networks of grouped convolutions, attention and embeddings, as a user would write them.

Those that are given widths can be built as small as a slice of a larger one.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor, nn

VOCABULARY = 7


def grouped(one: int = 8, two: int = 12, three: int = 6) -> nn.Sequential:
    """Depthwise (one with two filters a channel) and grouped convolutions; 1x6x6 images."""
    return nn.Sequential(
        nn.Conv2d(1, one, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(one, one, 3, padding=1, groups=one),
        nn.Conv2d(one, two, 3, padding=1, groups=4),
        nn.InstanceNorm2d(two, affine=True),
        nn.ReLU(),
        nn.Conv2d(two, 2 * two, 3, padding=1, groups=two),
        nn.Conv2d(2 * two, three, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(three, 3),
    )


def group_normed(one: int = 8, two: int = 12) -> nn.Sequential:
    """Group norm before and behind a grouped convolution, and a norm over all; 1x6x6 images."""
    return nn.Sequential(
        nn.Conv2d(1, one, 3, padding=1),
        nn.GroupNorm(2, one),
        nn.ReLU(),
        nn.Conv2d(one, two, 3, padding=1, groups=4),
        nn.GroupNorm(two, two),
        nn.ReLU(),
        nn.GroupNorm(1, two),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(two, 3),
    )


class WideBlockNet(nn.Module):
    """As ConvNeXt: depthwise, channels last, layer norm, two linear layers, a scale, a sum."""

    def __init__(self, width: int = 6, hidden: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 2, 2)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.5))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        last = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        new = self.scale * self.narrow(F.gelu(self.wide(last)))
        x = x + new.permute(0, 3, 1, 2)
        scores: Tensor = self.head(x.mean([-2, -1]))
        return scores


class TokenNet(nn.Module):
    """Attention written out, with a fixed scale and no norms; the head is the embedding again.

    `fused` makes queries, keys and values by one layer, cut in three by a "view" or by a "chunk";
    as "einsum" their products are written so besides.
    """

    def __init__(self, width: int = 8, heads: int = 2, fused: str = "") -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.temperature = math.sqrt(width / heads)
        self.tokens = nn.Embedding(VOCABULARY, width)
        if fused:
            self.three = nn.Linear(width, 3 * width)
        else:
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, time = x.shape[0], x.shape[1]
        if self.fused == "view":
            three = self.three(x).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            return three[0], three[1], three[2]
        if self.fused:
            query, key, value = self.three(x).chunk(3, dim=-1)
        else:
            query, key, value = self.query(x), self.key(x), self.value(x)
        cut = (batch, time, self.heads, -1)
        return (
            query.reshape(cut).transpose(1, 2),
            key.reshape(cut).transpose(1, 2),
            value.reshape(cut).transpose(1, 2),
        )

    def mixed(self, x: Tensor) -> Tensor:
        query, key, value = self.parts(x)
        if self.fused == "einsum":
            weights = torch.einsum("bhqd,bhkd->bhqk", query, key) / self.temperature
            mixed = torch.einsum("bhqk,bhkd->bqhd", torch.softmax(weights, dim=-1), value)
            return mixed.flatten(2)
        weights = torch.softmax(query @ key.transpose(-2, -1) / self.temperature, dim=-1)
        return (weights @ value).transpose(1, 2).flatten(2)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.tokens(numbers.long())
        x = x + self.out(self.mixed(x))
        x = x + self.narrow(torch.relu(self.wide(x)))
        scores: Tensor = self.head(x.mean(1))
        return scores


class TorchAttentionNet(nn.Module):
    """`nn.MultiheadAttention` between layer norms, with an embedded position."""

    def __init__(self, width: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Parameter(torch.full((16, width), 0.1))
        self.before = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.behind = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.tokens(numbers.long()) + self.positions[: numbers.shape[1]]
        x = self.before(x)
        mixed, _ = self.attention(x, x, x, need_weights=False)
        scores: Tensor = self.head(self.behind(x + mixed).mean(1))
        return scores


class EncoderNet(nn.Module):
    """`nn.TransformerEncoder` on embedded tokens, with a mask of what is padding."""

    def __init__(self, width: int = 8, hidden: int = 6, heads: int = 2) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(width))
        self.head = nn.Linear(width, 3)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.tokens(numbers.long())
        encoded = self.encoder(x, src_key_padding_mask=numbers > 5)
        scores: Tensor = self.head(encoded[:, 0])
        return scores


class SqueezeNet(nn.Module):
    """As MobileNet's blocks: wide, depthwise, channels weighed by their means, narrow, a sum."""

    def __init__(self, width: int = 4, inside: int = 6, squeezed: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.wide = nn.Conv2d(width, inside, 1, bias=False)
        self.norm = nn.BatchNorm2d(inside)
        self.depthwise = nn.Conv2d(inside, inside, 3, padding=1, groups=inside)
        self.squeeze = nn.Conv1d(inside, squeezed, 1)
        self.weigh = nn.Conv1d(squeezed, inside, 1)
        self.narrow = nn.Conv2d(inside, width, 1)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        y = self.depthwise(F.relu6(self.norm(self.wide(x))))
        weights = self.weigh(F.relu(self.squeeze(y.mean((2, 3))[:, :, None])))
        x = x + self.narrow(y * torch.sigmoid(weights).unsqueeze(3))
        scores: Tensor = self.head(x.mean((2, 3)))
        return scores


class CausalNet(nn.Module):
    """As small GPTs: learned places, one layer for queries, keys and values, a mask held as one."""

    def __init__(self, width: int = 8, hidden: int = 12, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(9, width)
        self.norm = nn.LayerNorm(width)
        self.three, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.head = nn.Linear(width, 3)
        self.register_buffer("past", torch.tril(torch.ones(9, 9)), persistent=False)

    def forward(self, numbers: Tensor) -> Tensor:
        batch, time = numbers.size()
        x = self.tokens(numbers.long()) + self.places(torch.arange(time)).unsqueeze(0)
        query, key, value = (
            part.view(batch, time, self.heads, -1).transpose(1, 2)
            for part in self.three(self.norm(x)).chunk(3, dim=2)
        )
        scores = query @ key.transpose(-2, -1) * 0.5
        past: Tensor = self.past[:time, :time]  # type: ignore[index]  # torch types buffers loosely
        weights = F.softmax(scores.masked_fill(past == 0, -torch.inf), dim=-1)
        mixed = (weights @ value).transpose(1, 2).contiguous().view(batch, time, -1)
        x = x + self.out(mixed)
        x = x + self.narrow(F.gelu(self.wide(x)))
        answer: Tensor = self.head(x[:, -1])
        return answer


class WeighedNet(nn.Module):
    """A convolution whose channels are weighed by linear layers, as in squeeze-and-excitation."""

    def __init__(self, one: int = 8, two: int = 6) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, one, 3, padding=1)
        self.squeeze, self.weigh = nn.Linear(one, 5), nn.Linear(5, one)
        self.second = nn.Conv2d(one, two, 3, padding=1)
        self.head = nn.Linear(two, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        weights = torch.sigmoid(self.weigh(F.relu(self.squeeze(x.mean((2, 3))))))
        scores: Tensor = self.head(self.second(x * weights[:, :, None, None]).mean((2, 3)))
        return scores


class MaskedNet(nn.Module):
    """Words without order, and the mean over those that are no padding."""

    def __init__(self, width: int = 6, filters: int = 10) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.layer = nn.Linear(width, filters)
        self.head = nn.Linear(filters, 3)

    def forward(self, numbers: Tensor) -> Tensor:
        mask = (numbers < 6).unsqueeze(-1).float()
        x = F.relu(self.layer(self.tokens(numbers.long()))) * mask
        scores: Tensor = self.head(x.sum(1) / mask.sum(1).clamp(min=1))
        return scores


class PatchNet(nn.Module):
    """As a vision transformer: patches, a class token, positions, attention, its first place."""

    def __init__(self, width: int = 8, inside: int = 4, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.first = nn.Parameter(torch.full((1, 1, width), 0.3))
        self.positions = nn.Parameter(torch.full((1, 10, width), 0.2))
        self.norm = nn.RMSNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, heads * inside) for _ in range(3))
        self.out = nn.Linear(heads * inside, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        y = self.norm(x)
        query, key, value = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=False)
        x = x + self.out(mixed.transpose(-3, -2).flatten(-2))
        scores: Tensor = self.head(x[:, 0])
        return scores


class WordNet(nn.Module):
    """Embedded words, a convolution over time, and its largest answer."""

    def __init__(self, width: int = 6, filters: int = 10) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.conv = nn.Conv1d(width, filters, 3, padding=1)
        self.head = nn.Linear(filters, 3)

    def forward(self, numbers: Tensor) -> Tensor:
        x = F.relu(self.conv(self.tokens(numbers.long()).transpose(1, 2)))
        scores: Tensor = self.head(x.amax(-1))
        return scores
