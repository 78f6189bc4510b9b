"""The joined prediction: vectors of the recommender, and beside them what the language model makes of the texts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lbr_st.recommending.lightgcn import LightGCN


class JoinedPrediction(nn.Module):
    """LightGCN whose vectors are continued by features of a language model, brought to as many dimensions.

    The score of an item for a user is that of LightGCN and that of the features, added: the product of the joined
    vectors. A user or an item that LightGCN does not know has the second one alone.

    Args:
        graph: The recommender, which is trained too.
        width: Numbers of a feature.
        seed: Of the projection.
    """

    def __init__(self, graph: LightGCN, width: int, seed: int = 0) -> None:
        super().__init__()
        self.graph = graph
        dimensions = graph.first.shape[1]
        drawn = torch.randn(width, dimensions, generator=torch.Generator().manual_seed(seed))
        self.projection = nn.Parameter((drawn / width**0.5).to(graph.first.device))
        self.features: tuple[Tensor, Tensor] | None = None

    def see(self, users: Tensor, items: Tensor) -> None:
        """Take features of all users and items, which are held fixed until the next ones."""
        device = self.projection.device
        self.features = users.detach().to(device), items.detach().to(device)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the joined vectors of the users and of the items, twice as long as those of the recommender."""
        assert self.features is not None
        users, items = (
            torch.cat([own, features @ self.projection], dim=1)
            for own, features in zip(self.graph(), self.features, strict=True)
        )
        return users, items
