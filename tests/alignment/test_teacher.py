"""Teachers of stage 2: asked once, held against the model on the dev data, and learned from."""

import errno
import json
import logging
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import cut_off, log_of, make_bert, same_weights, values
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

import lbr_st
from lbr_st.alignment import teacher as teaching
from lbr_st.alignment.batches import training_rows
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align, find_rate, plan, read_data
from lbr_st.alignment.teacher import EmbeddingTeacher, Lessons, Reranker, check_strength, teacher_of
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.training.held_out import HeldOutEvaluator

open_ = EmbeddingTeacher._open
WORDS = [f"w{n}" for n in range(16)]
ROWS = [{"query": f"what is {word}", "document": f"{word} it is"} for word in WORDS]
HARD = [
    row | {"negatives": [ROWS[(n + 1) % 16]["document"], ROWS[(n + 2) % 16]["document"]]} for n, row in enumerate(ROWS)
]


def make_teacher(folder, vectors):
    """Save a model whose embeddings are the mean of the vectors of the words that it knows."""
    vocabulary = {"[UNK]": 0} | {word: n for n, word in enumerate(WORDS, start=1)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    weights = np.vstack([np.zeros_like(vectors[:1]), vectors]).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=weights)]).save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def perfect(tmp_path_factory):
    """A teacher that knows which document answers a query, and that neighbours are close: 5 wide, the student 32."""
    turns = 2 * np.pi * np.arange(16) / 16
    vectors = np.stack([np.cos(turns), np.sin(turns), *(0.1 * np.cos(k * turns) for k in (2, 3, 5))], axis=1)
    return make_teacher(tmp_path_factory.mktemp("teachers") / "perfect", vectors)


@pytest.fixture(scope="module")
def ignorant(tmp_path_factory):
    """A teacher that takes all words for one."""
    return make_teacher(tmp_path_factory.mktemp("teachers") / "ignorant", np.ones((16, 5)))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    """A cross-encoder of random weights."""
    folder = tmp_path_factory.mktemp("teachers") / "reranker"
    make_bert(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    config = BertConfig(vocab_size=len(tokenizer), num_labels=1, initializer_range=1.0, **shape)
    BertForSequenceClassification(config).save_pretrained(folder / "ce")
    tokenizer.save_pretrained(folder / "ce")
    return str(folder / "ce")


@pytest.fixture
def config(backbone, perfect, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "hard.jsonl", HARD)
    return AlignConfig(
        model=backbone,
        data=str(tmp_path / "train.jsonl"),
        dev_data=str(tmp_path / "train.jsonl"),
        teacher=perfect,
        allow_overlap=True,
        max_length=24,
        per_device_train_batch_size=8,
        output_dir=str(tmp_path / "out"),
        learning_rate=1e-3,
        max_steps=4,
        eval_steps=2,
        save_total_limit=9,
        logging_steps=1,
        temperature=0.1,
    )


def hard(config, **changes):
    return replace(config, data=config.data.replace("train", "hard"), **changes)


def asked(config, tmp_path):
    lessons = Lessons(teacher_of(config), training_rows(read_data(config).train))
    lessons.ask(tmp_path / "answers")
    return lessons


def test_an_embedding_teacher_scores_by_cosine_with_its_own_prompts(config, perfect, tmp_path):
    model = SentenceTransformer(perfect)
    model.prompts["query"] = "w3 "
    prompted = str(tmp_path / "prompted")
    model.save_pretrained(prompted)
    lessons = asked(hard(config, teacher=prompted), tmp_path)
    assert sum(role == "query" for role, _ in lessons.items) == sum(role == "document" for role, _ in lessons.items)
    rows = torch.tensor([4, 9, 0])
    texts = [HARD[row] for row in rows]
    queries = [model.encode(f"w3 {row['query']}") for row in texts]
    positives = [model.encode(row["document"]) for row in texts]
    negatives = [[model.encode(text) for text in row["negatives"]] for row in texts]
    others = [[1, 2], [2, 0], [0, 1]]
    lists = [[positives[n], *negatives[n], *(positives[other] for other in others[n])] for n in range(3)]
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    expected = [[cosine(query, each) for each in found] for query, found in zip(queries, lists, strict=True)]
    assert lessons.scores_of(rows).numpy() == pytest.approx(np.array(expected), abs=1e-6)


def test_a_reranker_scores_the_documents_of_a_row_before_the_activation(config, reranker, tmp_path):
    lessons = asked(hard(config, teacher=None, reranker=reranker), tmp_path)
    rows = torch.tensor([4, 9])
    model = BertForSequenceClassification.from_pretrained(reranker).eval()
    tokenizer = BertTokenizer.from_pretrained(reranker)
    expected = []
    for row in rows:
        documents = [HARD[row]["document"], *HARD[row]["negatives"]]
        with torch.no_grad():
            batch = tokenizer([HARD[row]["query"]] * 3, documents, return_tensors="pt", padding=True)
            expected.append(model(**batch).logits[:, 0])
    found = lessons.scores_of(rows)
    assert found.std() > 0.01
    assert torch.allclose(found, torch.stack(expected), atol=1e-5)


def test_what_was_asked_before_a_kill_is_not_asked_again(config, tmp_path, monkeypatch):
    """Each text once, the files to the same bytes, and none of another teacher's left."""
    monkeypatch.setattr(teaching, "PART", 10)
    config = hard(config, per_device_eval_batch_size=5)
    counted = []
    ask = EmbeddingTeacher.ask

    def counting(self, items):
        counted.extend(items)
        if len(counted) == 25:
            raise KeyboardInterrupt
        return ask(self, items)

    monkeypatch.setattr(EmbeddingTeacher, "ask", counting)
    lessons = Lessons(teacher_of(config), training_rows(read_data(config).train))
    (tmp_path / "answers" / "teacher-of-another").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        lessons.ask(tmp_path / "answers")
    [folder] = (tmp_path / "answers").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["00000.safetensors", "00001.safetensors"]
    counted.append(None)
    lessons.ask(tmp_path / "answers")
    assert len(counted) == 25 + 1 + 12  # of 32 texts, 20 were kept
    again = list(counted)
    lessons.ask(tmp_path / "answers")
    assert counted == again
    straight = Lessons(teacher_of(config), training_rows(read_data(config).train))
    straight.ask(tmp_path / "straight")
    [other] = (tmp_path / "straight").iterdir()
    assert other.name == folder.name
    assert [file.read_bytes() for file in sorted(other.iterdir())] == [
        file.read_bytes() for file in sorted(folder.iterdir())
    ]


def test_a_full_disk_while_asking_says_how_to_go_on(config, tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "PART", 10)
    write = Path.write_bytes

    def full_at_the_second(file, data):
        if "00001" in file.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        return write(file, data)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left") as error:
        patched.setattr(Path, "write_bytes", full_at_the_second)
        align(config)
    [folder] = (tmp_path / "out" / "checkpoints").glob("teacher-*")
    kept = f"1 of 4 files of the teacher's answers are in {folder}, and the same command goes on there"
    assert error.value.__notes__ == [kept]
    align(config)
    assert len(list(folder.glob("*.safetensors"))) == 4


def test_a_killed_run_does_not_ask_again_and_ends_with_the_same_weights(config, tmp_path, monkeypatch):
    """Killed after a checkpoint, and before the first one."""
    out = tmp_path / "out"
    config = replace(config, lora_rank=4, lora_dropout=0.3, learning_rate=1e-2)
    align(config)
    straight = load_file(out / "model.safetensors")
    cut_off(out, 2)
    with monkeypatch.context() as patched:
        patched.setattr(EmbeddingTeacher, "_open", lambda self: pytest.fail("the teacher was opened"))
        align(replace(config, resume=True))
    resumed = load_file(out / "model.safetensors")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)

    kept = {out / "lbr_run.json", out / "checkpoints", *out.glob("checkpoints/teacher-*")}
    for path in {*out.iterdir(), *out.glob("checkpoints/*")} - kept:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(EmbeddingTeacher, "ask", lambda self, items: pytest.fail("the teacher was asked"))
        align(config)
    again = load_file(out / "model.safetensors")
    assert all(torch.equal(straight[name], again[name]) for name in straight)


def test_opening_and_asking_leave_the_random_numbers_alone(config, tmp_path, monkeypatch):
    """Or a run that finds the answers would end with other weights."""
    opened = []
    monkeypatch.setattr(EmbeddingTeacher, "_open", lambda self: (opened.append(torch.rand(3)), open_(self))[1])
    data = read_data(config)
    lessons = Lessons(teacher_of(config), training_rows(data.train))
    student = lbr_st.from_backbone(config.model, max_seq_length=24)
    before = torch.get_rng_state()
    check_strength(lessons.teacher, student, data.dev, [])
    lessons.ask(tmp_path / "answers")
    lessons.seconds()
    assert len(opened) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_a_changed_teacher_is_noticed(config, perfect, tmp_path):
    model = SentenceTransformer(perfect)
    mine = str(tmp_path / "mine")
    model.save_pretrained(mine)
    config = replace(config, teacher=mine)
    align(config)
    cut_off(tmp_path / "out", 2)
    history = lbr_st.load(str(tmp_path / "out" / "checkpoints" / "checkpoint-2"))[0].history
    assert history == []
    model.prompts["query"] = "w3 "
    model.save_pretrained(mine)
    with pytest.raises(InputError, match=r"holds a run with other settings \(teacher_sha256: was "):
        align(replace(config, resume=True))


def divergence(model, teacher):
    """The mean divergence of the student's softmax over all documents from the teacher's, by hand."""
    queries, documents = ([row[name] for row in ROWS] for name in ("query", "document"))
    [mine, its] = (
        each.similarity(each.encode_query(queries), each.encode_document(documents)) / 0.1 for each in (model, teacher)
    )
    p = its.softmax(dim=1)
    return (p * (p.log() - mine.log_softmax(dim=1))).sum(dim=1).mean().item()


def test_a_student_is_pulled_to_its_teachers_ranking(config, perfect, tmp_path):
    config = replace(config, max_steps=40, eval_steps=40, learning_rate=5e-3, keep="last")
    teacher = SentenceTransformer(perfect)
    start = divergence(lbr_st.from_backbone(config.model, max_seq_length=24), teacher)
    alone = divergence(align(replace(config, teacher=None, output_dir=str(tmp_path / "alone"))), teacher)
    taught = divergence(align(config), teacher)
    assert taught < 0.5 * alone and taught < 0.5 * start
    log = log_of(tmp_path / "out")
    parts = zip(values(log, "contrastive"), values(log, "teacher"), values(log, "loss"), strict=True)
    assert all(c[1] + t[1] == pytest.approx(loss[1], abs=1e-3) for c, t, loss in parts)
    assert "teacher" not in log_of(tmp_path / "alone")[1]
    [step] = lbr_st.load(str(tmp_path / "out"))[0].history
    assert (step["teacher"], len(step["teacher_sha256"])) == ("perfect", 64)


def test_with_everything_else_a_run_goes_on_to_the_same_weights(config, tmp_path):
    """Several hard negatives, gradient caching, both directions, shorter embeddings, the language model."""
    more = {"mini_batch_size": 3, "symmetric": True, "matryoshka_dims": [8], "lm_weight": 0.5}
    config = hard(config, **more, document_prompt="d: ", teacher_weight=2.0, teacher_temperature=0.2)
    out = tmp_path / "out"
    align(config)
    straight = load_file(out / "model.safetensors")
    last = log_of(out)
    parts = [values(last, name) for name in ("contrastive", "teacher", "lm", "loss")]
    assert all(sum(v for _, v in step[:3]) == pytest.approx(step[3][1], abs=2e-3) for step in zip(*parts, strict=True))
    cut_off(out, 2)
    align(replace(config, resume=True))
    resumed = load_file(out / "model.safetensors")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_weight_and_temperature_reach_the_loss(config, tmp_path):
    first = []
    for name, changes in {"one": {}, "two": {"teacher_weight": 2.0}, "flat": {"teacher_temperature": 1e4}}.items():
        align(replace(config, output_dir=str(tmp_path / name), max_steps=1, dev_data=None, **changes))
        first.append(values(log_of(tmp_path / name), "teacher")[0][1])
    assert first[1] == pytest.approx(2 * first[0], rel=1e-3)
    assert abs(first[2] - first[0]) > 0.05


def test_a_weaker_teacher_is_refused_with_both_numbers(config, ignorant, tmp_path, caplog):
    """Of a student that has learned something."""
    good = str(tmp_path / "good")
    align(replace(config, max_steps=30, eval_steps=30, learning_rate=1e-2, output_dir=good))
    rows = read_data(config).dev
    mine = HeldOutEvaluator(rows)(lbr_st.load(good))["dev_cosine_ndcg@10"]
    its = HeldOutEvaluator(rows)(SentenceTransformer(ignorant))["dev_cosine_ndcg@10"]
    assert its < mine - 0.1
    config = replace(config, model=good, teacher=ignorant)
    numbers = f"its dev nDCG@10 is {its:.3f}, that of the model before training {mine:.3f}"
    with pytest.raises(InputError, match=f"--teacher .*ignorant is weaker than the model: {numbers}; take a stronger"):
        align(config)
    assert not (tmp_path / "out").exists()
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        align(replace(config, weak_teacher=True))
    assert f"is weaker than the model: {numbers}" in caplog.text


def test_a_better_teacher_is_said_to_be_one(config, caplog):
    with caplog.at_level(logging.INFO, logger="lbr_st"):
        align(replace(config, max_steps=1))
    before = values(log_of(Path(config.output_dir)), "eval_dev_cosine_ndcg@10")[0][1]
    assert f"its dev nDCG@10 is 1.000, that of the model before training {before:.3f}" in caplog.text


def test_without_dev_data_a_warning_says_that_nobody_knows(config, caplog):
    align(replace(config, dev_data=None, max_steps=1))
    assert "nobody knows whether --teacher" in caplog.text


def test_a_reranker_reorders_the_first_documents_of_the_student(config, reranker, monkeypatch):
    """Both numbers by hand: of half the queries, with the documents of all, the first five of each."""
    monkeypatch.setattr(teaching, "FIRST", 5)
    monkeypatch.setattr(teaching, "MOST_QUERIES", 8)
    config = hard(config, teacher=None, reranker=reranker)
    dev = read_data(config).dev
    student = lbr_st.from_backbone(config.model, max_seq_length=24)
    found = Reranker(config).on_dev(student, dev, [{"document": "w99 it is"}])

    documents = [*(row["document"] for row in ROWS), "w99 it is"]
    scores = student.similarity(
        student.encode_query([row["query"] for row in ROWS[::2]]), student.encode_document(documents)
    )
    judge = Reranker(config).model
    gains = [[], []]
    for n, row in enumerate(scores):
        first = row.argsort(descending=True)[:5].tolist()
        logits = judge.predict([(ROWS[2 * n]["query"], documents[d]) for d in first])
        reordered = [first[k] for k in np.argsort(-logits)]
        for gain, order in zip(gains, (first, reordered), strict=True):
            gain.append(1 / math.log2(order.index(2 * n) + 2) if 2 * n in order else 0.0)
    assert found == pytest.approx([np.mean(gain) for gain in gains], abs=1e-6)
    assert found[0] != found[1]


def test_a_run_with_a_reranker(config, reranker, tmp_path):
    config = hard(config, teacher=None, reranker=reranker, weak_teacher=True)
    align(config)
    out = tmp_path / "out"
    assert all(value > 0 for _, value in values(log_of(out), "teacher"))
    run = json.loads((out / "lbr_run.json").read_text())
    assert run["arguments"]["reranker"] == "ce" and len(run["contents"]["reranker_sha256"]) == 64
    align(hard(config, teacher=None, output_dir=str(tmp_path / "alone"), reranker=None, weak_teacher=False))
    assert not same_weights(out, tmp_path / "alone")


@pytest.mark.slow
def test_what_a_run_takes_includes_the_teacher(config, tmp_path):
    found = plan(replace(config, dry_run=True))
    without = plan(replace(config, dry_run=True, teacher=None))
    assert found.teacher_seconds > 0 and without.teacher_seconds == 0
    steps = found.steps * found.step_seconds + found.evaluations * found.evaluation_seconds
    assert found.minutes == pytest.approx((steps + found.teacher_seconds) / 60)
    assert len(find_rate(replace(config, find_rate=True)).tries) == 3
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reranker": "b"}, "--teacher and --reranker are two teachers; leave out one of them"),
        ({"teacher": None, "teacher_weight": 1.0}, "--teacher-weight is for a teacher: give --teacher or --reranker"),
        ({"teacher": None, "weak_teacher": True}, "--weak-teacher is for a teacher"),
        ({"teacher_weight": 0.0}, "--teacher-weight must be above 0, got 0.0"),
        ({"teacher_temperature": -1.0}, "--teacher-temperature must be above 0, got -1.0"),
        ({"dev_data": None, "weak_teacher": True}, "--weak-teacher needs --dev-data"),
        ({"teacher": "./none"}, "--teacher ./none is not a model: no such directory"),
        ({"teacher": None, "reranker": "./none"}, "--reranker ./none is not a model: no such directory"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_at_once(config, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        align(replace(config, **changes))
    assert not (tmp_path / "out").exists()


def test_models_that_can_be_no_teacher_are_refused(config, reranker, backbone, tmp_path):
    with pytest.raises(InputError, match=f"--teacher {backbone} is a language model, not an embedding model"):
        align(replace(config, teacher=backbone))
    bert = make_bert(tmp_path / "bert")
    with pytest.raises(InputError, match="--reranker .* is no reranker: it is a BertModel without a head for scores"):
        align(hard(config, teacher=None, reranker=bert))
    with pytest.raises(InputError, match="--reranker ranks the documents of a row, and these rows have one: `lbr data"):
        align(replace(config, teacher=None, reranker=reranker))
    several = BertForSequenceClassification.from_pretrained(reranker, num_labels=3, ignore_mismatched_sizes=True)
    several.save_pretrained(tmp_path / "several")
    BertTokenizer.from_pretrained(reranker).save_pretrained(tmp_path / "several")
    with pytest.raises(InputError, match="--reranker .*several gives a pair 3 scores; a reranker gives one"):
        align(hard(config, teacher=None, reranker=str(tmp_path / "several")))
    assert not (tmp_path / "out").exists()


def test_several_processes_are_refused(config, monkeypatch):
    monkeypatch.setattr(AlignConfig, "world_size", 2)
    with pytest.raises(InputError, match="--teacher runs in one process"):
        teacher_of(config)


def test_an_answer_that_is_no_number_is_refused_with_its_text(config, tmp_path, monkeypatch):
    monkeypatch.setattr("lbr_st.model.opening.check_embedder", lambda *args: None)  # as if that text alone overflowed
    vectors = np.ones((16, 5))
    vectors[3] = np.nan
    broken = make_teacher(tmp_path / "broken", vectors)
    with pytest.raises(InputError, match="--teacher .*broken says no number of '(what is w3|w3 it is)'"):
        asked(replace(config, teacher=broken), tmp_path)
    assert not (tmp_path / "answers").exists()


def test_a_teacher_whose_score_is_no_number_is_weaker(config, perfect):
    class Broken(EmbeddingTeacher):
        def on_dev(self, student, dev, more):
            return [0.5, math.nan]

    with pytest.raises(InputError, match="its dev nDCG@10 is nan, that of the model before training 0.500"):
        check_strength(Broken(config), None, [{"query": "a", "document": "b"}], [])
