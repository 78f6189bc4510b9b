"""The turn of the language model: it learns to embed a user, as told by a text, next to what the user chose then."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import get_linear_schedule_with_warmup

from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.lengths import prompt_of
from lbr_st.model.precision import computing_in
from lbr_st.model.token_batches import default_budget
from lbr_st.recommending.config import RecommendConfig
from lbr_st.recommending.interactions import Interactions
from lbr_st.recommending.lightgcn import Choices
from lbr_st.recommending.sharing import InformationSharing
from lbr_st.recommending.texts import Texts

WARM_UP = 0.1  # of all steps
LONGEST_GRADIENT = 1.0


def contrastive_loss(users: Tensor, items: Tensor, ignored: Tensor, log_shares: Tensor, temperature: float) -> Tensor:
    """Return the cross-entropy of finding the item of each user among those of the batch.

    As popular items are in more batches, the logarithm of how often an item is chosen is taken off its score
    (Yi et al., RecSys 2019).

    Args:
        users: ``(batch, width)``, rows of length 1.
        items: ``(batch, width)``, rows of length 1; row n is what user n chose.
        ignored: ``(batch, batch)``: items of others that a user chose too, which count for nothing.
        log_shares: ``(batch,)``: logarithm of the share of each item in all choices.
        temperature: What cosines are divided by.
    """
    own = torch.eye(len(users), dtype=torch.bool, device=users.device)
    scores = users.float() @ items.float().T / temperature - log_shares
    return functional.cross_entropy(
        scores.masked_fill(ignored & ~own, float("-inf")), torch.arange(len(users), device=users.device)
    )


class LanguageModelSide:
    """What the language model does in its turns.

    Args:
        model: Model that is trained in place.
        interactions: Users, items and what is learned from.
        texts: Their texts.
        choices: Who chose what in training.
        sharing: What it shares with the recommender; None where there are no tokens.
        token_ids: Ids of the tokens, in the order of what is shared.
        config: Settings.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        interactions: Interactions,
        texts: Texts,
        choices: Choices,
        sharing: InformationSharing | None,
        token_ids: Sequence[int],
        config: RecommendConfig,
    ) -> None:
        self.model, self.interactions, self.texts, self.choices = model, interactions, texts, choices
        self.sharing, self.token_ids, self.config = sharing, torch.tensor(token_ids, device=model.device), config
        self.dtype = torch.bfloat16 if config.bf16 else None
        train = interactions.split.train
        self._examples = [(user, at) for user, history in enumerate(train) for at in range(len(history))]
        self._random = random.Random(config.seed)
        self._batches = self._endless_batches()
        counts = torch.from_numpy(interactions.counts).float()
        self._log_shares = (counts / counts.sum()).log()
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
        self._schedule = get_linear_schedule_with_warmup(self._optimizer, round(WARM_UP * config.steps), config.steps)

    def turn(self, steps: int) -> float:
        """Train for some steps; return the mean loss, without what is added for the recommender."""
        self.model.train()
        total = 0.0
        for _ in tqdm(range(steps), "Language model", unit="step"):
            loss = self._loss(next(self._batches))
            total += loss.item()
            if self.sharing is not None and self.config.weight:
                loss = loss + self.config.weight * self.sharing.distance(self.shared_vectors())
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), LONGEST_GRADIENT)
            self._optimizer.step()
            self._schedule.step()
        self.model.eval()
        return total / steps

    def shared_vectors(self) -> Tensor:
        """Return the rows of the tokens as vectors of the recommender."""
        assert self.sharing is not None
        embeddings: Any = bottleneck_module(self.model).model.get_input_embeddings()
        return self.sharing.vectors(embeddings.weight[self.token_ids])

    def features(self) -> tuple[Tensor, Tensor]:
        """Return the vectors that the model has for the texts of all users and of all items."""
        histories = self.interactions.split.train
        users = [self.texts.user(user, history) for user, history in enumerate(histories)]
        items = [self.texts.item(item) for item in range(len(self.interactions.items))]
        # No probe: which texts are in a batch would depend on the speed of the machine, and the last digits on that.
        encoder = TextEncoder(self.model, default_budget(self.model.device.type == "cuda"))
        with computing_in(self.dtype, self.model.device), tqdm(total=len(users) + len(items), desc="Encoding") as bar:
            return encoder.encode(users, "query", on_texts=bar.update), encoder.encode(items, on_texts=bar.update)

    def _loss(self, batch: Sequence[tuple[int, int]]) -> Tensor:
        histories = self.interactions.split.train
        told, texts = [], []
        for user, at in batch:
            history = histories[user]
            told.append(self.texts.user(user, history[:at], plain=self._is_plain()))
            texts.append(self.texts.item(history[at], plain=self._is_plain()))
        numbers = torch.tensor([(user, histories[user][at]) for user, at in batch])
        ignored = self.choices.chosen(numbers[:, :1], numbers[:, 1])
        device = self.model.device
        with computing_in(self.dtype, device):
            users, items = self._encode(told, "query"), self._encode(texts, "document")
        log_shares = self._log_shares[numbers[:, 1]].to(device)
        return contrastive_loss(users, items, ignored.to(device), log_shares, self.config.temperature)

    def _encode(self, texts: list[str], role: str) -> Tensor:
        prompt = prompt_of(self.model, role) or None
        features = self.model.preprocess(texts, prompt=prompt, task=role)
        on_device = {
            name: each.to(self.model.device) if isinstance(each, Tensor) else each for name, each in features.items()
        }
        return self.model(on_device, task=role)["sentence_embedding"]

    def _is_plain(self) -> bool:
        return self._random.random() < self.config.dropout

    def _endless_batches(self) -> Iterator[list[tuple[int, int]]]:
        size = min(self.config.batch_size, len(self._examples))
        while True:
            self._random.shuffle(self._examples)
            for start in range(0, len(self._examples) - size + 1, size):
                yield self._examples[start : start + size]
