"""A plain vision transformer on cubes of voxels.

Method: A. Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021, in the sizes of DeiT (H. Touvron et al., ICML
2021), here in three dimensions and without a class token.
"""

from torch import Tensor, nn
from torch.nn import functional

from pipeline.nets.position_table import PositionTable

LAYER_NORM_EPS = 1e-6
MLP_RATIO = 4
LINEAR_STD = 0.02


class VisionTransformer(nn.Module):
    """Cubes of voxels to tokens that all attend to each other, still on their grid.

    token_vox: side of a cube. dim: features of a token, a multiple of heads. depth: number of blocks.
    """

    def __init__(self, channels_in: int, token_vox: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Conv3d(channels_in, dim, token_vox, token_vox)
        self.positions = PositionTable(dim, token_vox)
        self.blocks = nn.ModuleList(TransformerBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, LAYER_NORM_EPS)
        self.apply(initialise_linear)

    def forward(self, image: Tensor) -> Tensor:
        """Float (B, channels_in, x, y, z), multiples of token_vox, to (B, dim, x / token_vox, ...)."""
        cells = self.positions(self.embedding(image))
        tokens = cells.flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens).transpose(1, 2).unflatten(2, cells.shape[2:])


class TransformerBlock(nn.Module):
    """Attention between tokens, then a perceptron of each, both on normed tokens and added to them."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, LAYER_NORM_EPS)
        self.attention = TokenAttention(dim, heads)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(dim, LAYER_NORM_EPS),
            nn.Linear(dim, MLP_RATIO * dim),
            nn.GELU(),
            nn.Linear(MLP_RATIO * dim, dim),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Float (B, N, dim) to the same shape."""
        tokens = tokens + self.attention(self.attention_norm(tokens))
        return tokens + self.perceptron(tokens)


class TokenAttention(nn.Module):
    """Softmax of Q K^T / sqrt(dim / heads) over all tokens, times V, for each head; no map is stored."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Float (B, N, dim) to the same shape."""
        parts = self.queries_keys_values(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        answers = functional.scaled_dot_product_attention(*parts.unbind(0))  # each (B, heads, N, dim / heads)
        return self.output(answers.transpose(1, 2).flatten(2))


def initialise_linear(module: nn.Module) -> None:
    """Draw a linear layer's weights as DeiT does; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=LINEAR_STD)
        nn.init.zeros_(module.bias)
