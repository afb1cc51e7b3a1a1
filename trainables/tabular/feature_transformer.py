"""A transformer whose tokens are the columns of a table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.tabular.categories import category_vectors
from trainables.tasks.predictor import Predictor
from trainables.tasks.targets import TargetKind, targets_of


class FeatureTransformer(Predictor):
    """FT-Transformer (Gorishniy et al. 2021, https://arxiv.org/abs/2106.11959).

    Each column of a row becomes a token: a number times a vector plus a vector, a category's vector plus a vector. A
    token of its own reads them through `depth` blocks of attention and a gated layer (ReGLU), each normalised first.

    Input (batch, numbers) of standardised columns and (batch, categorical columns) of category numbers from 0; output
    (batch, classes) logits, or (batch,) numbers.

    Args:
        numbers: Number of numerical columns.
        categories: How many categories each categorical column has.
        classes: Number of classes; not used where `target` is `number`.
        depth: Number of blocks.
        heads: Attention heads of each block.
        head_width: Numbers per head; a token has `heads` * `head_width` of them.
        hidden_factor: Units of a block's gated layer per number of a token; 4/3 in the paper.
        attention_dropout: Probability of dropping an attention weight.
        hidden_dropout: Probability of dropping a unit of the gated layer.
        residual_dropout: Probability of dropping a number of what a block adds.
        label_smoothing: Share of the target spread over all classes (Szegedy et al. 2016).
        target: `class` or `number`: what is predicted.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a model are arguments
        self,
        numbers: int = 3,
        categories: list[int] | None = None,
        classes: int = 2,
        depth: int = 2,
        heads: int = 4,
        head_width: int = 8,
        hidden_factor: float = 4 / 3,
        attention_dropout: float = 0.2,
        hidden_dropout: float = 0.1,
        residual_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        target: TargetKind = "class",
    ) -> None:
        super().__init__(targets_of(target, label_smoothing))
        self.save_hyperparameters()
        width = heads * head_width
        self.tokens = Tokens(numbers, categories or [], width)
        self.blocks = nn.ModuleList(
            Block(
                width, heads, int(width * hidden_factor), (attention_dropout, hidden_dropout, residual_dropout), i > 0
            )
            for i in range(depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, classes if target == "class" else 1))
        self.is_number = target == "number"

    def forward(self, numbers: Tensor, categories: Tensor | None = None) -> Tensor:
        """Logits of shape (batch, classes), or numbers of shape (batch,)."""
        tokens: Tensor = self.tokens(numbers, categories)
        for block in self.blocks:
            tokens = block(tokens)
        outputs: Tensor = self.head(tokens[:, 0])
        return outputs.squeeze(1) if self.is_number else outputs


class Tokens(nn.Module):
    """Columns to tokens (batch, 1 + columns, width); the first one is the reader, the same for every row."""

    def __init__(self, numbers: int, categories: list[int], width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.reader = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        self.weights = nn.Parameter(torch.empty(numbers, width).uniform_(-bound, bound))
        self.shifts = nn.Parameter(torch.empty(numbers + len(categories), width).uniform_(-bound, bound))
        self.embeddings = nn.ModuleList(nn.Embedding(count, width) for count in categories)
        for embedding in self.embeddings:
            nn.init.uniform_(embedding.weight, -bound, bound)  # type: ignore[arg-type]  # modules of a list are untyped

    def forward(self, numbers: Tensor, categories: Tensor | None) -> Tensor:
        """(batch, numbers) and (batch, categorical columns) to tokens."""
        columns = numbers.unsqueeze(-1) * self.weights
        vectors = category_vectors(self.embeddings, categories)
        if vectors:
            columns = torch.cat([columns, torch.stack(vectors, 1)], 1)
        return torch.cat([self.reader.expand(len(columns), 1, -1), columns + self.shifts], 1)


class Block(nn.Module):
    """Attention over a row's tokens, then a gated layer on each; normalised before, the first block's tokens are not.

    `dropouts`: of attention weights, of the gated layer, of what either adds.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropouts: tuple[float, float, float],
        normalises: bool,  # noqa: FBT001  # said by the block's place
    ) -> None:
        super().__init__()
        attention, gated, residual = dropouts
        self.attention_norm = nn.LayerNorm(width) if normalises else nn.Identity()
        self.attention = nn.MultiheadAttention(width, heads, attention, batch_first=True)
        self.norm, self.widen, self.narrow = nn.LayerNorm(width), nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.gated_dropout, self.residual_dropout = nn.Dropout(gated), nn.Dropout(residual)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of the same shape."""
        normed = self.attention_norm(tokens)
        attended = self.attention(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + self.residual_dropout(attended)
        values, gates = self.widen(self.norm(tokens)).chunk(2, -1)
        added: Tensor = self.residual_dropout(self.narrow(self.gated_dropout(values * F.relu(gates))))
        return tokens + added
