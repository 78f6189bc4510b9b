"""A trained recommender and its language model: what it suggests, how it scores, and the directory it is saved in.

The directory has two parts. ``model/`` is a model of sentence-transformers as any other. ``recommender/`` has who
chose what, and is not published with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

from lbr_st.data.cleaning import clean, printable
from lbr_st.data.rows import read_rows
from lbr_st.errors import InputError, one_line
from lbr_st.files import read_json, replacing_folder, write_json, write_jsonl
from lbr_st.model.encoding import TextEncoder
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.model.saving import save
from lbr_st.recommending.config import NONE
from lbr_st.recommending.interactions import Interactions
from lbr_st.recommending.ranking import Scorer
from lbr_st.recommending.texts import TOKEN, Texts

logger = logging.getLogger(__name__)

MODEL, RECOMMENDER = "model", "recommender"
VECTORS, USERS, ITEMS, SETTINGS = "recommender.safetensors", "users.jsonl", "items.jsonl", "settings.json"
POPULARITY, GRAPH, LANGUAGE_MODEL, JOINED = "popularity", "LightGCN", "language model", "joined"


@dataclass(frozen=True)
class Suggestion:
    """An item that is suggested.

    Attributes:
        id: Its id.
        name: What it is called.
        text: What is told of it.
        score: How well it fits: the more, the better.
    """

    id: str
    name: str
    text: str
    score: float


@dataclass(frozen=True)
class Vectors:
    """What is known of users and items in numbers; a row each.

    Attributes:
        users: Vectors of LightGCN; 0 for one that it does not know.
        items: The same of items.
        user_features: Vectors of the language model, of the text that tells of a user's training.
        item_features: The same of items.
        projection: What brings features to as many dimensions as LightGCN has.
    """

    users: Tensor
    items: Tensor
    user_features: Tensor
    item_features: Tensor
    projection: Tensor

    def scores(self, users: Tensor, features: Tensor) -> Tensor:
        """Return the joined scores of all items, for users with these vectors of either side."""
        return users @ self.items.T + (features @ self.projection) @ (self.item_features @ self.projection).T


@dataclass(frozen=True)
class TrainedRecommender:
    """A recommender and its language model.

    Attributes:
        model: The language model; it embeds texts as those of `Texts`, and any other text.
        interactions: Users, items, and who chose what.
        texts: The texts of users and items.
        vectors: Their vectors.
    """

    model: SentenceTransformer
    interactions: Interactions
    texts: Texts
    vectors: Vectors

    def scorers(self) -> dict[str, Scorer]:
        """Return what can be ranked by: popularity, either side alone, and both joined."""
        found, counts = self.vectors, torch.from_numpy(self.interactions.counts).float()
        return {
            POPULARITY: lambda users: counts.expand(len(users), -1),
            GRAPH: lambda users: found.users[list(users)] @ found.items.T,
            LANGUAGE_MODEL: lambda users: found.user_features[list(users)] @ found.item_features.T,
            JOINED: lambda users: found.scores(found.users[list(users)], found.user_features[list(users)]),
        }

    def suggest(self, user: str | None = None, liked: Sequence[str] = (), top_k: int = 5) -> list[Suggestion]:
        """Suggest items that a user has not chosen yet, the best first.

        Args:
            user: Id of a user of the training data, whose last choices are told too.
            liked: What somebody new chose, oldest first: items by their name, id or text, or words for others.
            top_k: Number of suggestions.

        Raises:
            InputError: If there is no such user, not one of both is given, or what is liked is blank.
        """
        liked = [liked] if isinstance(liked, str) else liked
        if (user is None) == (not liked):
            raise InputError("give --user, or what somebody new chose with --liked, and not both")
        if user is None:
            number, chosen = None, self._named(liked)
        else:
            number = self._number(user)
            chosen = [*self.interactions.histories[number]]
        features = TextEncoder(self.model).encode([self.texts.user(number, chosen)], "query")
        own = torch.zeros(1, self.vectors.users.shape[1]) if number is None else self.vectors.users[[number]]
        [scores] = self.vectors.scores(own, features)
        known = [item for item in chosen if isinstance(item, int)]
        scores[known] = float("-inf")
        best = scores.topk(min(top_k, len(scores) - len({*known})))
        of = self.interactions
        return [
            Suggestion(of.items[item], of.names[item], of.texts[item], score)
            for item, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _number(self, user: str) -> int:
        user = str(user)  # ids of a table are text here
        if user not in self.interactions.users:
            raise InputError(
                f"--user {user}: no such user among {len(self.interactions.users):,}, such as "
                f"{self.interactions.users[0]}; what somebody new chose is given with --liked"
            )
        return self.interactions.users.index(user)

    def _named(self, liked: Sequence[str]) -> list[int | str]:
        """Return the numbers of the items that are meant, and the words for others; say which is which."""
        of, numbers = self.interactions, dict[str, int]()
        printed = [f"{text} ({id_})" for text, id_ in zip(of.texts, of.items, strict=True)]
        for names in (of.names, of.texts, printed, of.items):  # the likeliest first
            for item, name in enumerate(names):
                numbers.setdefault(name.casefold(), item)
        words = [clean(name, one_line=True) for name in liked]
        if not all(words):
            raise InputError("--liked: an empty name says nothing; name what was chosen, or leave it out")
        if tokens := [token for word in words for token in TOKEN.findall(word)]:
            raise InputError(f"--liked: {tokens[0]} is a token of the model; name an item by its title or its id")
        found = [numbers.get(word.casefold(), word) for word in words]
        known = ", ".join(printed[each] for each in found if isinstance(each, int)) or "none"
        others = ", ".join(each for each in found if isinstance(each, str)) or "none"
        logger.info("--liked: items of the data: %s; read as words: %s", printable(known), printable(others))
        return found

    def save(self, output_dir: str | Path, settings: dict[str, object]) -> None:
        """Write the model and then the recommender; without the second, nothing opens the directory.

        Args:
            output_dir: New or empty folder.
            settings: What it was trained with.

        Raises:
            UnfinishedError: If what was written of the model gives other vectors.
        """
        of, texts = self.interactions, self.texts
        save(self.model, Path(output_dir) / MODEL)
        with replacing_folder(Path(output_dir) / RECOMMENDER) as folder:
            save_file({name: value.contiguous() for name, value in vars(self.vectors).items()}, folder / VECTORS)
            write_jsonl(
                folder / USERS,
                (
                    {"id": id_, "told": about, "query": texts.user(number, history), "history": history}
                    for number, (id_, about, history) in enumerate(zip(of.users, of.about, of.histories, strict=True))
                ),
            )
            write_jsonl(
                folder / ITEMS,
                (
                    {"id": id_, "called": name, "told": text, "document": texts.item(number)}
                    for number, (id_, name, text) in enumerate(zip(of.items, of.names, of.texts, strict=True))
                ),
            )
            write_json(folder / SETTINGS, settings)


def open_recommender(output_dir: str | Path) -> TrainedRecommender:
    """Open what `TrainedRecommender.save` wrote.

    Args:
        output_dir: Its directory.

    Raises:
        InputError: If it is none, or a file of it cannot be read.
    """
    folder = Path(output_dir) / RECOMMENDER
    if not (folder / SETTINGS).is_file():
        raise InputError(f"--model {output_dir} is no recommender: lbr recommend train makes one")
    try:
        settings = read_json(folder / SETTINGS)
        users, items = ([row.values for row in read_rows(folder / name)] for name in (USERS, ITEMS))
        interactions = Interactions(
            users=[row["id"] for row in users],
            about=[row["told"] for row in users],
            items=[row["id"] for row in items],
            names=[row["called"] for row in items],
            texts=[row["told"] for row in items],
            histories=[row["history"] for row in users],
        )
        vectors = Vectors(**load_file(folder / VECTORS))
        _check_fit(interactions, vectors)
        has_tokens, most = settings["tokens"] != NONE, settings["history"]
    except (KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
        raise InputError(f"--model {output_dir} is damaged: {one_line(error)}; copy it whole again") from error
    model = open_sentence_transformer(str(Path(output_dir) / MODEL))
    return TrainedRecommender(model, interactions, texts_of(interactions, has_tokens, most), vectors)


def _check_fit(interactions: Interactions, vectors: Vectors) -> None:
    """Refuse files of two recommenders, or of one that somebody has taken rows out of.

    Raises:
        ValueError: With the file.
    """
    for name, rows, of in ((USERS, interactions.users, vectors.users), (ITEMS, interactions.items, vectors.items)):
        if len(rows) != len(of):
            raise ValueError(f"{name} has {len(rows):,} rows, and {VECTORS} vectors of {len(of):,}")
    if max(map(max, filter(None, interactions.histories)), default=0) >= len(interactions.items):
        raise ValueError(f"{USERS} tells of items that {ITEMS} has not")


def texts_of(interactions: Interactions, has_tokens: bool, most: int) -> Texts:
    """Return the texts of users and items; those that training knows have a token, where there are tokens.

    Args:
        interactions: Users, items and what is learned from.
        has_tokens: Whether there are tokens.
        most: Most items that a user's text tells.
    """
    known = (interactions.counts > 0).tolist()
    return Texts(interactions.about, interactions.names, interactions.texts, known, has_tokens, most)
