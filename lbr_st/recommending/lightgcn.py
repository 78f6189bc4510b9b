"""LightGCN (arXiv 2002.02126): vectors of users and items from who chose what, and nothing else.

It is usable by itself::

    graph = LightGCN(train, items=1682)      # train: numbers of the items of each user
    train_recommender(graph, Choices(train, 1682), steps=2000)
    users, items = graph()                   # vectors; the score of an item for a user is their product
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

DIMENSIONS, LAYERS = 64, 3
BATCH_SIZE, LEARNING_RATE = 2048, 0.005
DECAY = 1e-4  # of the first vectors of a batch, as in the source
START = 0.1  # standard deviation of the first vectors, as in the source
DRAWS = 10  # of an item that a user did not choose, before one that the user chose is taken


class Choices:
    """Choices of users, drawn at random with an item each that the user did not choose.

    Args:
        histories: Numbers of the items that each user chose.
        items: Number of items.
        seed: Of the draws.
    """

    def __init__(self, histories: Sequence[Sequence[int]], items: int, seed: int = 0) -> None:
        self.items = items
        pairs = [(user, item) for user, history in enumerate(histories) for item in history]
        self.pairs = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
        self._keys = (self.pairs[:, 0] * items + self.pairs[:, 1]).unique()  # sorted
        self._generator = torch.Generator().manual_seed(seed)

    def chosen(self, users: Tensor, items: Tensor) -> Tensor:
        """Tell which users chose which items, of tensors of numbers that broadcast together."""
        wanted = users * self.items + items
        at = torch.searchsorted(self._keys, wanted).clamp(max=len(self._keys) - 1)
        return self._keys[at] == wanted

    def draw(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return numbers of users, of an item that each chose, and of one that each did not choose."""
        users, positives = self.pairs[torch.randint(len(self.pairs), (number,), generator=self._generator)].T
        negatives = self._items(number)
        for _ in range(DRAWS):
            if not (wrong := self.chosen(users, negatives)).any():
                break
            negatives[wrong] = self._items(int(wrong.sum()))
        return users, positives, negatives

    def _items(self, number: int) -> Tensor:
        return torch.randint(self.items, (number,), generator=self._generator)


class LightGCN(nn.Module):
    """Vectors of users and items, averaged along the graph of who chose what.

    ``E(k + 1) = D^-1/2 A D^-1/2 E(k)``, and the vectors are the mean of ``E(0) ... E(layers)``. A user or an item
    without a choice is known by nothing, and has the vector 0; this is ours.

    Args:
        histories: Numbers of the items that each user chose.
        items: Number of items.
        dimensions: Numbers of a vector.
        layers: How far it looks along the graph.
        seed: Of the first vectors.
    """

    graph: Tensor
    known: Tensor

    def __init__(
        self,
        histories: Sequence[Sequence[int]],
        items: int,
        dimensions: int = DIMENSIONS,
        layers: int = LAYERS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sizes = (len(histories), items)
        self.layers = layers
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(START * torch.randn(sum(self.sizes), dimensions, generator=generator))
        graph, degrees = _graph(histories, items)
        self.register_buffer("graph", graph, persistent=False)
        self.register_buffer("known", (degrees > 0)[:, None], persistent=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the vectors of the users and of the items: ``(users, dimensions)`` and ``(items, dimensions)``."""
        layer = total = self.first
        for _ in range(self.layers):
            layer = torch.sparse.mm(self.graph, layer)
            total = total + layer
        users, items = (self.known * total / (self.layers + 1)).split(self.sizes)
        return users, items


def _graph(histories: Sequence[Sequence[int]], items: int) -> tuple[Tensor, Tensor]:
    """Return the normalised graph of users and items, and the number of neighbours of each."""
    users = len(histories)
    pairs = [(user, users + item) for user, history in enumerate(histories) for item in dict.fromkeys(history)]
    edges = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    edges = torch.cat([edges, edges.flip(0)], dim=1)
    degrees = torch.bincount(edges[0], minlength=users + items)
    weights = degrees[edges].float().prod(dim=0).rsqrt()
    size = (users + items, users + items)
    return torch.sparse_coo_tensor(edges, weights, size, check_invariants=False).coalesce(), degrees


def bpr_loss(users: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Return the mean of ``-log sigmoid(u p - u n)`` (BPR, arXiv 1205.2618) of rows that belong together."""
    return functional.softplus((users * (negatives - positives)).sum(dim=1)).mean()


def train_recommender(
    graph: LightGCN,
    choices: Choices,
    steps: int,
    *,
    batch_size: int = BATCH_SIZE,
    optimizer: torch.optim.Optimizer | None = None,
    vectors: Callable[[], tuple[Tensor, Tensor]] | None = None,
    more: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> float:
    """Train vectors so that users are nearer to items that they chose than to others.

    Args:
        graph: What is trained.
        choices: What is drawn from.
        steps: Number of steps.
        batch_size: Choices in a step.
        optimizer: What takes the steps; default is Adam with `LEARNING_RATE`.
        vectors: Gives the vectors of all users and items that are scored; default is those of the graph.
        more: Loss to add, of these vectors.

    Returns:
        The mean loss of the choices, without what is added.
    """
    optimizer = optimizer or torch.optim.Adam(graph.parameters(), lr=LEARNING_RATE)
    device, total = graph.first.device, 0.0
    for _ in tqdm(range(steps), "Recommender", unit="step"):
        user, positive, negative = (each.to(device) for each in choices.draw(batch_size))
        users, items = (vectors or graph)()
        loss = bpr_loss(users[user], items[positive], items[negative])
        total += loss.item()
        used = torch.cat([user, len(users) + positive, len(users) + negative])
        loss = loss + DECAY * graph.first[used].square().sum() / batch_size / 2
        if more is not None:
            loss = loss + more(users, items)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return total / steps
