"""Training a language model and a recommender that learn from each other (arXiv 2311.03778)."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import set_seed

from lbr_st.errors import DivergedError, InputError
from lbr_st.files import require_empty
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.lengths import warn_of_longer
from lbr_st.model.opening import open_model
from lbr_st.model.trainable import check_can_be_trained
from lbr_st.recommending.config import NONE, PRELOADED, RecommendConfig
from lbr_st.recommending.interactions import Interactions, read_interactions
from lbr_st.recommending.joined import JoinedPrediction
from lbr_st.recommending.language_model import LanguageModelSide
from lbr_st.recommending.lightgcn import Choices, LightGCN, train_recommender
from lbr_st.recommending.recommender import TrainedRecommender, Vectors, texts_of
from lbr_st.recommending.sharing import InformationSharing, check_dimensions
from lbr_st.recommending.texts import Texts, item_token, user_token
from lbr_st.recommending.tokens import add_tokens, check_has_none
from lbr_st.training.finish import of_no_use

logger = logging.getLogger(__name__)

STAGE = "recommend train"  # as the history of a model says it


def recommend(config: RecommendConfig) -> TrainedRecommender:
    """Train a language model and a recommender that learn from each other, and save both.

    The last choice of each user, and the one before it, are never learned from.

    Args:
        config: Settings.

    Returns:
        What was saved in ``output_dir``, in memory.

    Raises:
        InputError: If the data or the model cannot be used, before any long work.
        DivergedError: If a side has no vectors of use any more.
        UnfinishedError: If what was written of the model gives other vectors.
    """
    require_empty(config.output_dir)
    check_can_be_trained(config.model, config.max_length)
    interactions = read_interactions(
        config.data,
        config.items,
        config.users,
        item_text=config.item_text,
        user_text=config.user_text,
        min_score=config.min_score,
        judged_by=config.judged_by,
        on_error=config.on_error,
    )
    model = open_model(config.model, max_seq_length=config.max_length)
    trained = train(config, interactions, model)
    bottleneck_module(model).history.append({"stage": STAGE, **config.described()})
    trained.save(config.output_dir, config.described())
    return trained


def train(config: RecommendConfig, interactions: Interactions, model: SentenceTransformer) -> TrainedRecommender:
    """Train on interactions that are read, with a model that is open; nothing is saved.

    Args:
        config: Settings.
        interactions: Users, items and what is learned from.
        model: Model that is trained in place.

    Raises:
        InputError: If the recommender's vectors are longer than the language model is wide, it keeps the first numbers
            of its vectors alone, or it has tokens of users already.
        DivergedError: If a side has no vectors of use any more.
    """
    module = bottleneck_module(model)
    if model.truncate_dim is not None:
        raise InputError(
            f"--model {config.model} keeps the first {model.truncate_dim} numbers of its vectors, and is trained in "
            "all; take truncate_dim out of its config_sentence_transformers.json"
        )
    width = module.get_embedding_dimension()
    check_has_none(module)
    check_dimensions(config.dimensions, width)
    set_seed(config.seed)
    choices, graph = train_graph(config, interactions, str(model.device))
    texts = texts_of(interactions, config.tokens != NONE, config.history)
    # Of the users, and of the items that have a token: where they are among all users and all items.
    users, items = len(interactions.users), len(interactions.items)
    owners = torch.tensor([*range(users), *(users + item for item in range(items) if texts.known[item])])
    sharing, ids = None, list[int]()
    if texts.has_tokens:
        sharing, ids = _give_tokens(config, texts, model, _vectors_of(graph)[owners])
    side = LanguageModelSide(model, interactions, texts, choices, sharing, ids, config)
    warn_of_longer(model, map(texts.user, range(users), interactions.split.train), map(texts.item, range(items)))
    joined = JoinedPrediction(graph, width, config.seed)
    optimizer = torch.optim.Adam(joined.parameters(), lr=config.recommender_learning_rate)

    def more(users_: Tensor, items_: Tensor) -> Tensor:
        if sharing is None or not config.weight:
            return users_.new_zeros(())
        of_graph = torch.cat([users_, items_])[:, : config.dimensions]
        return config.weight * sharing.distance(of_graph[owners])

    for turn in range(config.rounds):
        loss = side.turn(_part(config.steps, turn, config.rounds))
        if (what := of_no_use(model) or ("are not finite" if not math.isfinite(loss) else None)) is not None:
            raise DivergedError(
                f"training diverged: the vectors of the language model {what}; lower --learning-rate, which was "
                f"{config.learning_rate:g}"
            )
        if sharing is not None:
            sharing.share(side.shared_vectors())
        joined.see(*side.features())
        steps = _part(config.joint_steps, turn, config.rounds)
        of_recommender = train_recommender(
            graph,
            choices,
            steps,
            batch_size=config.recommender_batch_size,
            optimizer=optimizer,
            vectors=joined,
            more=more,
        )
        _refuse_diverged(of_recommender, graph, config)
        if sharing is not None:
            sharing.share(_vectors_of(graph)[owners])
        logger.info("turn %d of %d: losses %.3f and %.3f", turn + 1, config.rounds, loss, of_recommender)
    return TrainedRecommender(model, interactions, texts, _found(joined))


def train_graph(config: RecommendConfig, interactions: Interactions, device: str) -> tuple[Choices, LightGCN]:
    """Train LightGCN alone.

    Args:
        config: Settings.
        interactions: Users, items and what is learned from.
        device: Device to train it on.

    Returns:
        What is drawn from, and the recommender.

    Raises:
        DivergedError: If its vectors are not finite.
    """
    histories, items = interactions.split.train, len(interactions.items)
    choices = Choices(histories, items, config.seed)
    graph = LightGCN(histories, items, config.dimensions, config.graph_layers, config.seed).to(device)
    loss = train_recommender(
        graph,
        choices,
        config.recommender_steps,
        batch_size=config.recommender_batch_size,
        optimizer=torch.optim.Adam(graph.parameters(), lr=config.recommender_learning_rate),
    )
    _refuse_diverged(loss, graph, config)
    logger.info("LightGCN alone: loss %.3f", loss)
    return choices, graph


def _refuse_diverged(loss: float, graph: LightGCN, config: RecommendConfig) -> None:
    """Refuse a recommender whose vectors are of no use any more.

    Raises:
        DivergedError: If its loss or its vectors are not finite.
    """
    if not math.isfinite(loss) or not _vectors_of(graph).isfinite().all():
        raise DivergedError(
            f"training diverged: the vectors of the recommender are not finite (loss {loss:g}); lower "
            f"--recommender-learning-rate, which was {config.recommender_learning_rate:g}"
        )


def _give_tokens(
    config: RecommendConfig, texts: Texts, model: SentenceTransformer, vectors: Tensor
) -> tuple[InformationSharing, list[int]]:
    """Add the tokens of users and known items to a model; return what is shared by them, and their ids."""
    module: Any = bottleneck_module(model)
    first = max(module.tokenizer.get_vocab().values()) + 1
    sharing = InformationSharing(module.model.get_input_embeddings().weight.data[:first], vectors, config.seed)
    rows = sharing.rows(vectors) if config.tokens == PRELOADED else sharing.random_rows(len(vectors))
    tokens = [user_token(user) for user in range(len(texts.about))]
    tokens += [item_token(item) for item, known in enumerate(texts.known) if known]
    return sharing, add_tokens(module, tokens, rows)


def _vectors_of(graph: LightGCN) -> Tensor:
    """Return the vectors of all users, and then of all items."""
    with torch.no_grad():
        return torch.cat(graph())


def _part(steps: int, turn: int, turns: int) -> int:
    """Return how many of all steps a turn takes, so that all turns together take all."""
    return steps * (turn + 1) // turns - steps * turn // turns


def _found(joined: JoinedPrediction) -> Vectors:
    assert joined.features is not None
    users, items = _vectors_of(joined.graph).split(joined.graph.sizes)
    parts = (users, items, *joined.features, joined.projection.detach())
    return Vectors(*(each.cpu().clone() for each in parts))
