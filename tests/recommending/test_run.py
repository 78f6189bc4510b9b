"""A language model and a recommender that learn from each other: what they learn, what is saved, whom it serves."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from toy_choices import write_choices

import lbr_st
from lbr_st.errors import DivergedError, InputError
from lbr_st.model.opening import open_model
from lbr_st.recommending import run
from lbr_st.recommending.config import RecommendConfig
from lbr_st.recommending.interactions import read_interactions
from lbr_st.recommending.joined import JoinedPrediction
from lbr_st.recommending.language_model import LanguageModelSide
from lbr_st.recommending.lightgcn import Choices, LightGCN
from lbr_st.recommending.ranking import rank_held_out
from lbr_st.recommending.recommender import open_recommender, texts_of
from lbr_st.recommending.run import _give_tokens, _part, recommend, train
from lbr_st.recommending.sharing import InformationSharing
from lbr_st.recommending.texts import Texts, item_token, user_token

UNSEEN = 12  # the number of an item that nobody chose


@pytest.fixture(scope="module")
def config(backbone, tmp_path_factory):
    """Settings of a run of seconds, on two tastes and an item that nobody chose."""
    folder = tmp_path_factory.mktemp("choices")
    choices, items = write_choices(folder)
    with open(items, "a", encoding="utf-8") as file:
        file.write("12,green leaf,green\n")
    return RecommendConfig(
        model=backbone, data=choices, items=items, output_dir=str(folder / "out"), max_length=100, dimensions=8,
        recommender_steps=200, recommender_batch_size=64, recommender_learning_rate=0.02, rounds=2, steps=30,
        joint_steps=100, batch_size=8, learning_rate=1e-3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(config):
    return recommend(config)


def test_it_ranks_what_a_user_chose_last_better_than_popularity(done):
    figures = {
        name: rank_held_out(score, done.interactions).figures()["full_ndcg_at_10"]
        for name, score in done.scorers().items()
    }
    assert list(figures) == ["popularity", "LightGCN", "language model", "joined"]
    assert min(figures["LightGCN"], figures["joined"]) > figures["popularity"] + 0.1


def test_what_is_saved_is_what_was_trained(done, config):
    """By stock classes the model, by our own both; a token stands in the text of a user."""
    again = lbr_st.open_recommender(config.output_dir)
    assert again.interactions == done.interactions and again.texts == done.texts
    for name, value in vars(done.vectors).items():
        assert torch.equal(getattr(again.vectors, name), value)
    text = done.texts.user(3, done.interactions.split.train[3])
    assert text.startswith(f"User {user_token(3)}. Chose: blue ")
    stock = SentenceTransformer(f"{config.output_dir}/model", device="cpu")
    np.testing.assert_allclose(stock.encode(text), done.vectors.user_features[3], atol=1e-5)
    np.testing.assert_allclose(stock.encode(done.texts.item(0)), done.vectors.item_features[0], atol=1e-5)
    for one, other in zip(again.suggest("u3"), done.suggest("u3"), strict=True):
        assert one == replace(other, score=one.score)
        assert one.score == pytest.approx(other.score, abs=1e-5)  # products of arrays that lie elsewhere may be rounded


def test_the_joined_score_is_the_sum_of_both_sides(done):
    found = done.vectors
    of_graph = found.users[[5]] @ found.items.T
    of_features = (found.user_features[[5]] @ found.projection) @ (found.item_features @ found.projection).T
    torch.testing.assert_close(done.scorers()["joined"]([5]), of_graph + of_features)
    assert of_features.abs().max() > 1e-3


def test_suggestions_are_new_to_the_user(done):
    """In the order of their scores; the first is of the user's own colour, which has one item left."""
    found = done.suggest("u3", top_k=100)
    chosen = {done.interactions.items[item] for item in done.interactions.histories[3]}
    assert {each.id for each in found} == {*done.interactions.items} - chosen
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    assert found[0].name.startswith("blue") and found[0].text == f"{found[0].name}, blue"
    assert done.suggest("u3", top_k=1) == found[:1]


def test_somebody_new_is_told_by_names(done):
    """Those that are known have their tokens and are not suggested again; others are read as words."""
    found = done.suggest(liked=["Blue  SKY", "something of no shop"], top_k=100)
    assert len(found) == 12 and "blue sky" not in [each.name for each in found]
    text = done.texts.user(None, [6, "something of no shop"])
    assert text == f"User. Chose: something of no shop; blue sky {item_token(6)}"
    expected = done.vectors.scores(torch.zeros(1, 8), torch.from_numpy(done.model.encode([text], prompt="")))[0]
    assert found[0].score == pytest.approx(max(expected[:6].max(), expected[7:].max()).item(), abs=1e-5)
    assert all(len(done.suggest(liked=[name], top_k=1)) == 1 for name in ("x", "red wine"))


def test_an_item_that_nobody_chose_is_read_by_its_text(done):
    """It has no token and no vector of the recommender, and can be suggested all the same."""
    assert done.texts.item(UNSEEN) == "Item: green leaf, green"
    assert item_token(UNSEEN) not in done.model.tokenizer.get_vocab()
    assert not done.vectors.items[UNSEEN].any() and done.vectors.item_features[UNSEEN].any()
    assert "green leaf" in [each.name for each in done.suggest("u3", top_k=100)]


@pytest.mark.parametrize("spelled", ["6", "blue sky, blue", "Blue sky, blue  (6)", "blue sky"])
def test_an_item_is_meant_by_its_id_and_as_it_is_printed(done, spelled, caplog):
    caplog.set_level(logging.INFO, "lbr_st")
    assert done.suggest(liked=[spelled, "a book"], top_k=100) == done.suggest(liked=["blue sky", "a book"], top_k=100)
    assert "--liked: items of the data: blue sky, blue (6); read as words: a book" in caplog.text


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"liked": ["blue sky", " "]}, "--liked: an empty name says nothing"),
        (
            {"user": "u99"},
            "--user u99: no such user among 16, such as u0; what somebody new chose is given with --liked",
        ),
        ({}, "give --user, or what somebody new chose with --liked, and not both"),
        ({"user": "u0", "liked": ["x"]}, "and not both"),
    ],
)
def test_who_cannot_be_served(done, asked, said):
    with pytest.raises(InputError, match=said):
        done.suggest(**asked)


def test_the_same_seed_gives_the_same_bytes(done, config, tmp_path):
    recommend(replace(config, output_dir=str(tmp_path / "again")))
    for name in ("model/model.safetensors", "model/tokenizer.json", "recommender/recommender.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (open(f"{config.output_dir}/{name}", "rb")).read(), name


def test_the_model_says_what_it_was_made_from(done, config):
    """Without folders; its card repeats the command."""
    [step] = json.loads(open(f"{config.output_dir}/model/lbr_config.json", encoding="utf-8").read())["history"]
    assert step["stage"] == "recommend train" and step["data"] == "choices.csv" and step["mutual_weight"] == 0.1
    card = open(f"{config.output_dir}/model/README.md", encoding="utf-8").read()
    assert "lbr recommend train" in card and "--items items.csv" in card and "choices.csv" in card
    assert "u3" not in card and "layers of its backbone" not in card


def turn_of(config, **settings):
    """Let the language model take a turn; return how far it is from the recommender before and after."""
    config = replace(config, learning_rate=0.01, steps=10, **settings)
    interactions = read_interactions(config.data, config.items)
    model = open_model(config.model, max_seq_length=100)
    histories, items = interactions.split.train, len(interactions.items)
    vectors = torch.cat(LightGCN(histories, items, config.dimensions)())
    texts = texts_of(interactions, has_tokens=True, most=10)
    owners = torch.tensor([*range(16), *(16 + item for item in range(items) if texts.known[item])])
    sharing, ids = _give_tokens(config, texts, model, vectors[owners].detach())
    side = LanguageModelSide(model, interactions, texts, Choices(histories, items), sharing, ids, config)
    before = sharing.distance(side.shared_vectors()).item()
    side.turn(10)
    assert torch.equal(sharing.shared, vectors[owners].detach())  # the recommender stays where it is
    return before, sharing.distance(side.shared_vectors()).item()


def test_the_language_model_is_held_to_the_recommender(config):
    """Tokens that start at random come nearer where the distance counts; preloaded ones start where they should be."""
    before, alone = turn_of(config, tokens="random", mutual_weight=0.0)
    again, held = turn_of(config, tokens="random", mutual_weight=30.0)
    assert before == again > 1 and held < 0.9 * alone
    preloaded, _ = turn_of(config)
    assert preloaded == pytest.approx(0, abs=1e-9)


def test_each_side_is_held_to_what_the_other_shared_last(config, monkeypatch):
    """Both share once a turn, and the distance counts in its loss; texts have the tokens that are asked for."""
    shared, added, plain = [], [], []
    share, part, of_user = InformationSharing.share, run.train_recommender, Texts.user

    def joint(*args, **settings):
        if "more" in settings:
            added.append(settings["more"](*settings["vectors"]()).item())
        return part(*args, **settings)

    monkeypatch.setattr(InformationSharing, "share", lambda self, of: shared.append(of) or share(self, of))
    monkeypatch.setattr(run, "train_recommender", joint)
    monkeypatch.setattr(Texts, "user", lambda *args, **how: plain.append(how.get("plain")) or of_user(*args, **how))
    settings = replace(config, steps=4, joint_steps=4, recommender_steps=2, token_dropout=1.0)
    train(settings, read_interactions(config.data, config.items), open_model(config.model, max_seq_length=100))
    assert len(shared) == 2 * config.rounds and len(added) == config.rounds and min(added) > 0
    assert set(filter(None.__ne__, plain)) == {True}


def test_without_tokens_there_are_words_alone(config):
    """In half precision, too."""
    opened = open_model(config.model, max_seq_length=100)
    words = len(opened.tokenizer)
    without = {"tokens": "none", "mutual_weight": None, "token_dropout": None}
    settings = replace(config, **without, steps=2, joint_steps=2, bf16=True)
    found = train(settings, read_interactions(config.data, config.items), opened)
    assert len(opened.tokenizer) == words
    assert found.texts.user(0, [0]) == "User. Chose: red apple" and found.texts.item(0) == "Item: red apple, red"


def test_features_are_held_fixed_and_join_the_vectors():
    """They stand beside the recommender's own, and no gradient flows to the language model."""
    graph = LightGCN([[0], [1]], 2, dimensions=4)
    joined = JoinedPrediction(graph, 6)
    features = [torch.randn(2, 6, requires_grad=True) for _ in range(2)]
    joined.see(*features)
    users, items = joined()
    torch.testing.assert_close(users[:, :4], graph()[0])
    torch.testing.assert_close(items[:, 4:], features[1] @ joined.projection)
    (users.sum() + items.sum()).backward()
    assert features[0].grad is None and joined.projection.grad.abs().sum() > 0 and graph.first.grad.abs().sum() > 0


@pytest.mark.parametrize(("steps", "turns"), [(10, 3), (5, 5), (7, 2)])
def test_all_turns_together_take_all_steps(steps, turns):
    parts = [_part(steps, turn, turns) for turn in range(turns)]
    assert sum(parts) == steps and min(parts) >= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"batch_size": 1}, "--batch-size must be at least 2, got 1"),
        ({"history": 0}, "--history must be from 1 to 2147483647, got 0"),
        ({"steps": 1}, "--steps 1 are too few for --rounds 2"),
        ({"joint_steps": 1}, "--joint-steps 1 are too few for --rounds 2"),
        ({"temperature": 0.0}, "--temperature must be a number above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be a number above 0, got nan"),
        ({"token_dropout": 1.5}, "--token-dropout must be from 0 to 1, got 1.5"),
        ({"mutual_weight": -1.0}, "--mutual-weight must be a number of at least 0, got -1.0"),
        (
            {"tokens": "none", "mutual_weight": 0.5, "token_dropout": None},
            "--mutual-weight is for tokens, which --tokens none leaves out",
        ),
        ({"tokens": "none", "mutual_weight": 0.0}, "--token-dropout is for tokens, which --tokens none leaves out"),
        ({"min_score": 3.0, "judged_by": "none"}, "--min-score is for a column that judges"),
        ({"min_score": float("nan")}, "--min-score must be a number, got nan"),
        ({"tokens": "some"}, "--tokens must be one of preloaded, random, none, got some"),
        ({"seed": -1}, "--seed must be a whole number from 0 to"),
    ],
)
def test_settings_that_cannot_be_meant(config, settings, said):
    with pytest.raises(InputError, match=said):
        replace(config, **settings)


def test_what_cannot_be_trained(done, config, tmp_path):
    with pytest.raises(InputError, match="is not empty; choose another folder"):
        recommend(config)
    with pytest.raises(InputError, match="--dimensions 40: the language model is 32 wide; ask for 32 at most"):
        recommend(replace(config, dimensions=40, output_dir=str(tmp_path / "out")))
    with pytest.raises(
        InputError, match=r"has 28 tokens of users and items already, \[item_0\] for one; start from the"
    ):
        recommend(replace(config, model=f"{config.output_dir}/model", output_dir=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learning_rate": 1e30}, "the language model are not finite; lower --learning-rate, which was 1e.30"),
        ({"recommender_learning_rate": 1e30}, "the recommender are not finite .*lower --recommender-learning-rate"),
    ],
)
def test_training_that_diverged_says_so(config, settings, said, tmp_path):
    """It is no fault of the model."""
    few = {"rounds": 1, "steps": 3, "joint_steps": 2, "recommender_steps": 3, "output_dir": str(tmp_path / "out")}
    with pytest.raises(DivergedError, match=f"training diverged: the vectors of {said}"):
        recommend(replace(config, **few, **settings))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_opened(done, config, tmp_path):
    with pytest.raises(InputError, match="is no recommender: lbr recommend train makes one"):
        open_recommender(tmp_path)
    (tmp_path / "recommender").mkdir()
    (tmp_path / "recommender" / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged: .*users.jsonl.*; copy it whole again"):
        open_recommender(tmp_path)
