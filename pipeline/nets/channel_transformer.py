"""The channel transformer of UCTransNet: all skips of a U-Net weighed against each other, channel by channel.

Method: H. Wang et al., UCTransNet: Rethinking the skip connections in U-Net from a channel-wise perspective with
transformer, AAAI 2022, here in three dimensions. C_i are the channels of skip i, C their sum, N the number of tokens.
"""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.position_table import PositionTable
from pipeline.nets.relu_block import ReluBlock

LAYER_NORM_EPS = 1e-6
MLP_RATIO = 4


class ChannelTransformer(nn.Module):
    """Cuts every skip into the same N tokens, lets their channels attend to each other, and adds what they learnt.

    widths: channels of each skip, the finest first; each next one has half the size.
    token_vox: voxels of the finest skip along a side of a token; of the next skip half as many, and so on.
    """

    def __init__(self, widths: Sequence[int], token_vox: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        sides = [token_vox >> level for level in range(len(widths))]
        self.embeddings = nn.ModuleList(
            ChannelEmbedding(width, side, token_vox, dropout) for width, side in zip(widths, sides, strict=True)
        )
        self.layers = nn.ModuleList(ChannelTransformerLayer(widths, heads, dropout) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width, LAYER_NORM_EPS) for width in widths)
        self.reconstructions = nn.ModuleList(Reconstruction(width) for width in widths)

    def forward(self, skips: Sequence[Tensor]) -> list[Tensor]:
        """Float (B, C_i, x_i, y_i, z_i) for each skip, sizes multiples of its tokens' sides, to fused ones of the same
        shapes."""
        cells = [embedding(skip) for embedding, skip in zip(self.embeddings, skips, strict=True)]
        grid = cells[0].shape[2:]
        tokens = [cell.flatten(2).transpose(1, 2) for cell in cells]
        for layer in self.layers:
            tokens = layer(tokens)
        fused = []
        for skip, level, norm, reconstruction in zip(skips, tokens, self.norms, self.reconstructions, strict=True):
            fused.append(reconstruction(norm(level).transpose(1, 2).unflatten(2, grid), skip))
        return fused


class ChannelEmbedding(nn.Sequential):
    """Cubes of `side` voxels to tokens with as many channels: (B, C, x, y, z) -> (B, C, x / side, ...)."""

    def __init__(self, channels: int, side: int, token_vox: int, dropout: float) -> None:
        super().__init__(
            nn.Conv3d(channels, channels, side, side), PositionTable(channels, token_vox), nn.Dropout(dropout)
        )


class ChannelTransformerLayer(nn.Module):
    """Attention between channels, then a perceptron of every token, each added to its normed input's origin."""

    def __init__(self, widths: Sequence[int], heads: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, LAYER_NORM_EPS) for width in widths)
        self.joined_norm = nn.LayerNorm(sum(widths), LAYER_NORM_EPS)
        self.attention = ChannelAttention(widths, heads, dropout)
        self.perceptrons = nn.ModuleList(perceptron(width) for width in widths)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Float (B, N, C_i) for each skip, to the same shapes."""
        joined = self.joined_norm(torch.cat(list(levels), dim=2))
        normed = [norm(level) for norm, level in zip(self.norms, levels, strict=True)]
        answers = self.attention(normed, joined)
        attended = [level + answer for level, answer in zip(levels, answers, strict=True)]
        return [level + mlp(level) for level, mlp in zip(attended, self.perceptrons, strict=True)]


class ChannelAttention(nn.Module):
    """Attention whose map says how much each channel of a skip takes from each channel of all skips.

    With queries Q_i = T_i Wq of skip i, and keys K and values V of all skips together, for each of the heads:
    A_i = softmax over C of norm(Q_i^T K / sqrt(C)), a C_i x C map in which tokens are summed away, so that memory does
    not grow with N; norm brings each map to mean 0 and variance 1. The answer is Wo mean over heads of V A_i^T.
    All heads have the full width. Each projection is one matrix for all of its heads.
    """

    def __init__(self, widths: Sequence[int], heads: int, dropout: float) -> None:
        super().__init__()
        total = sum(widths)
        self.heads = heads
        self.queries = nn.ModuleList(nn.Linear(width, heads * width, bias=False) for width in widths)
        self.keys = nn.Linear(total, heads * total, bias=False)
        self.values = nn.Linear(total, heads * total, bias=False)
        self.outputs = nn.ModuleList(nn.Linear(width, width, bias=False) for width in widths)
        self.dropout = nn.Dropout(dropout)

    def forward(self, levels: Sequence[Tensor], joined: Tensor) -> list[Tensor]:
        """Float (B, N, C_i) for each skip and (B, N, C) for all together, to an answer (B, N, C_i) for each."""
        keys, values = self.keys(joined), self.values(joined)
        answers = []
        for level, query, output in zip(levels, self.queries, self.outputs, strict=True):
            weights = self.dropout(self.weights(query(level), keys)).to(values.dtype)
            side_by_side = weights.transpose(1, 2).flatten(2)  # (B, C_i, heads x C): one product sums over the heads
            mean = values @ side_by_side.transpose(1, 2) / self.heads
            answers.append(self.dropout(output(mean)))
        return answers

    def weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the maps, float32 (B, heads, C_i, C), rows in (0, 1) with sum 1.

        queries: (B, N, heads x C_i). keys: (B, N, heads x C). Sums over all tokens leave the range of half precision.
        """
        with torch.autocast(queries.device.type, enabled=False):
            queries_by_head = queries.float().unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1)
            keys_by_head = keys.float().unflatten(2, (self.heads, -1)).transpose(1, 2)
            similarity = queries_by_head @ keys_by_head / sqrt(keys_by_head.shape[-1])
            return functional.layer_norm(similarity, similarity.shape[-2:]).softmax(dim=-1)


class Reconstruction(nn.Module):
    """Brings tokens back to their skip's resolution and adds them to it.

    The published order is: nearest upsampling, 1x1x1 convolution, norm, ReLU. All of these act voxel by voxel or on
    mean and variance, which repeating every voxel equally often does not change; so they run on the tokens, and the sum
    spreads them. That is the same function without a full-size intermediate.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = ReluBlock(channels, channels, kernel=1)

    def forward(self, cells: Tensor, skip: Tensor) -> Tensor:
        """Float cells (B, C, x, y, z) and skip (B, C, k x, l y, m z), to a sum of the skip's shape."""
        features = self.block(cells)
        (x, y, z), size = features.shape[2:], skip.shape
        cubes = skip.reshape(*size[:2], x, size[2] // x, y, size[3] // y, z, size[4] // z)
        return (cubes + features[:, :, :, None, :, None, :, None]).reshape(size)


def perceptron(channels: int) -> nn.Sequential:
    """Return a layer norm and two layers of each token by itself."""
    hidden = MLP_RATIO * channels
    return nn.Sequential(
        nn.LayerNorm(channels, LAYER_NORM_EPS), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
    )
