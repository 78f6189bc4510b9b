"""A language model on this machine: what it reads, what it draws, and that no query depends on another."""

import shutil

import pytest
import torch
from helpers import NEW, make_backbone, masked_greedy
from transformers import AutoModelForCausalLM, AutoTokenizer

import lbr_st
from lbr_st.adaptation import writers
from lbr_st.adaptation.kinds import BEGINNINGS, WRITTEN, prompt_of
from lbr_st.adaptation.passages import Passage
from lbr_st.adaptation.writers import ChatWriter, Decoding, Doc2QueryWriter, Request, SeededNoise, open_writer
from lbr_st.errors import InputError

PASSAGES = [
    Passage("a", "Anaemia is treated with iron, folic acid or vitamin B12.", "s", titles=["Guide > Anaemia"]),
    Passage("b", "Salt raises blood pressure.", "s"),
    Passage("c", "Sorting a list takes n log n comparisons. " * 6, "s"),
]
REQUESTS = [Request(passage, kind, 1) for passage in PASSAGES for kind in WRITTEN]


def answers_of(writer, requests):
    return {request.key: answer for request, answer in writer.write(requests)}


@pytest.fixture(scope="module")
def writer(chat_backbone):
    return open_writer(chat_backbone, "float32", Decoding())


def expected(folder, request, new):
    """Independent computation: the stock model, one prompt, no cache, no padding, token by token."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    titled = {"a": "Guide > Anaemia\n" + PASSAGES[0].document}.get(request.passage.id, request.passage.document)
    prompt = f"<user>{prompt_of(request.kind, titled)}\n<assistant>{BEGINNINGS.get(request.kind, '')}"
    ids, start = tokenizer(prompt, add_special_tokens=False)["input_ids"], None
    start = len(ids)
    while len(ids) < start + new:
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True)


def test_a_chat_model_is_asked_without_bottleneck_tokens(writer, chat_backbone, monkeypatch):
    """In a batch of unlike lengths each answer is that of the plain model alone."""
    monkeypatch.setattr(writers, "MOST_NEW_TOKENS", 8)
    found = answers_of(writer, REQUESTS)
    for request in REQUESTS[::2]:
        assert found[request.key].text == expected(chat_backbone, request, 8)
    assert {request.kind for request in REQUESTS[::2]} == {*WRITTEN}


def test_a_model_of_ours_writes_what_its_backbone_writes(writer, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "MOST_NEW_TOKENS", 12)
    lbr_st.save(writer.model, tmp_path / "model")
    ours = open_writer(str(tmp_path / "model"), "float32", Decoding())
    assert isinstance(ours, ChatWriter)
    assert answers_of(ours, REQUESTS[:4]) == answers_of(writer, REQUESTS[:4])
    assert ours.about["model_sha256"] != writer.about["model_sha256"]


def test_what_is_drawn_depends_on_no_other_query(chat_backbone, monkeypatch):
    """Neither on what lies beside it in a batch, nor on what was written before."""
    monkeypatch.setattr(writers, "MOST_NEW_TOKENS", 12)
    drawing = open_writer(chat_backbone, "float32", Decoding(temperature=1.0, seed=5))
    together = answers_of(drawing, REQUESTS)
    alone = {}
    for request in reversed(REQUESTS):
        alone |= answers_of(drawing, [request])
    assert alone == together
    drawing.decoding = Decoding(temperature=1.0, seed=6)
    other = answers_of(drawing, REQUESTS)
    assert all(other[key] != together[key] for key in other)
    again = [request._replace(number=2) for request in REQUESTS]
    assert not {answer.text for answer in answers_of(drawing, again).values()} & {a.text for a in other.values()}


def test_noise_draws_by_the_temperature():
    """Shares of 4,000 draws: at temperature 2 of the root of each probability."""
    scores = torch.tensor([0.64, 0.32, 0.04]).log().expand(4000, 3)
    for temperature, shares in ((1.0, [0.64, 0.32, 0.04]), (2.0, [0.8, 0.5657, 0.2])):
        drawn = SeededNoise(range(4000), temperature)(None, scores).argmax(dim=1)
        share = torch.bincount(drawn, minlength=3) / 4000
        assert torch.allclose(share, torch.tensor(shares) / sum(shares), atol=0.03)


def test_doc2query_is_what_stage_1_trained(model, monkeypatch):
    """Out of the bottleneck tokens, under stage 1's own mask."""
    monkeypatch.setattr(writers, "MOST_NEW_TOKENS", NEW)
    model[0].history = [{"stage": "learn", "objective": "sft:0.5,doc2query:0.5", "arm": "cut-off"}]
    writer = Doc2QueryWriter(model, {"model": "m"}, Decoding())
    assert writer.kinds == ("question",)
    requests = [Request(passage, "question", 1) for passage in PASSAGES]
    found = answers_of(writer, requests)
    assert [found[r.key].text for r in requests] == [masked_greedy(model[0], r.passage.document) for r in requests]


def test_a_model_that_learned_doc2query_writes_so(model, tmp_path):
    for arm, objective, can in (
        ("cut-off", "doc2query", True),
        ("plain", "doc2query", False),
        ("cut-off", "sft", False),
    ):
        model[0].history = [{"stage": "learn", "objective": objective, "arm": arm}]
        lbr_st.save(model, tmp_path / f"{arm}-{objective}")
        if can:
            assert isinstance(open_writer(str(tmp_path / f"{arm}-{objective}"), "float32", Decoding()), Doc2QueryWriter)
        else:
            with pytest.raises(InputError, match="no chat template, and stage 1 did not teach it doc2query: name an"):
                open_writer(str(tmp_path / f"{arm}-{objective}"), "float32", Decoding())


def test_an_embedding_model_is_refused(embedding_model):
    with pytest.raises(InputError, match="is an embedding model and writes nothing"):
        open_writer(embedding_model, "float32", Decoding())


def test_passages_fit_beside_what_the_model_is_told(writer, monkeypatch, caplog):
    """A text is cut to passages that have room, and a document that is no text file is read by its beginning."""
    assert (
        writer.make_chunker().tokens
        <= writer.room
        == 1024 - writers.MOST_NEW_TOKENS - max(len(writer.ids_of(writer.prompt(kind, ""))) for kind in WRITTEN)
    )
    long = Passage("long", "Anaemia is treated with iron. " * 200, "s")
    seen = []
    monkeypatch.setattr(writer, "ids_of", lambda text: seen.append(type(writer).ids_of(writer, text)) or seen[-1])
    answers_of(writer, [Request(long, "question", 1)])
    assert 1024 - writers.MOST_NEW_TOKENS - 80 < len(seen[-1]) <= 1024 - writers.MOST_NEW_TOKENS
    assert "are asked about by their beginning" in caplog.text


def test_a_model_that_reads_too_little_is_refused(chat_backbone, tmp_path):
    folder = make_backbone(tmp_path / "short", max_position_embeddings=128)
    AutoTokenizer.from_pretrained(chat_backbone).save_pretrained(folder)
    with pytest.raises(InputError, match="reads 128 tokens, which leaves no room for a passage"):
        open_writer(folder, "float32", Decoding())


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for m in messages %}{{ m.content }}", "its chat template cannot be used: "),
        ("{{ no_such_function() }}", "its chat template cannot be used: .*no_such_function"),
        ("{{ raise_exception('roles must alternate') }}", "its chat template cannot be used: roles must alternate"),
        (
            "{% for m in messages %}{{ m.content[0].text }}{% endfor %}",
            "its chat template leaves out what the user says",
        ),
    ],
    ids=["cut off", "unknown function", "refuses", "of images"],
)
def test_a_chat_template_that_cannot_be_used(chat_backbone, tmp_path, template, message):
    """Before the first passage."""
    folder = shutil.copytree(chat_backbone, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match=message):
        open_writer(str(folder), "float32", Decoding())
