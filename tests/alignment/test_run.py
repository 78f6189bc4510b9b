"""Stage 2: what is trained, what a run ends with, and runs that resume."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import MANY, cut_off, kill_after_checkpoint, log_of, make_backbone, make_bert, same_weights, values
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

import lbr_st
from lbr_st.alignment import run as run_of_align
from lbr_st.alignment.config import AlignConfig
from lbr_st.alignment.run import align, freeze_unused_head, read_data
from lbr_st.alignment.trainer import AlignTrainer
from lbr_st.data.records import read_records, read_test
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.learning.config import LearnConfig
from lbr_st.learning.run import learn
from lbr_st.model.bottleneck import BottleneckTransformer
from lbr_st.model.verify import verify
from lbr_st.training.held_out import RECALL, HeldOutEvaluator


@pytest.fixture
def config(backbone, tmp_path):
    """A run of a few steps, with dev data."""
    write_jsonl(tmp_path / "train.jsonl", MANY)
    return AlignConfig(
        model=backbone,
        data=str(tmp_path / "train.jsonl"),
        dev_data=str(tmp_path / "train.jsonl"),
        allow_overlap=True,
        max_length=24,
        per_device_train_batch_size=8,
        output_dir=str(tmp_path / "out"),
        learning_rate=1e-3,
        max_steps=4,
        eval_steps=2,
    )


def run(config, **changes):
    return align(replace(config, **changes))


@pytest.mark.parametrize("tied", [True, False])
def test_an_untied_head_is_frozen(tmp_path, tied):
    model = lbr_st.from_backbone(make_backbone(tmp_path / "backbone", tied=tied), max_seq_length=24)
    freeze_unused_head(model)
    loss = MultipleNegativesRankingLoss(model)
    loss([model.preprocess(["a", "b"]), model.preprocess(["c", "d"])], None).backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert model[0].model.get_output_embeddings().weight.requires_grad is tied


def test_texts_longer_than_the_model_reads_are_counted(config, tmp_path, caplog):
    """Queries, documents, hard negatives and those of the dev data, each once."""
    long = "word " * 40
    rows = [{"query": f"{n}?", "document": f"{n}.", "negative": f"not {n}"} for n in range(3)]
    rows += [{"query": f"{long}?", "document": f"{long}.", "negative": f"{long} not"}]
    write_jsonl(tmp_path / "train.jsonl", rows)
    write_jsonl(tmp_path / "extra.jsonl", [{"text": f"{long} extra"}, {"text": "extra"}])
    config = replace(config, corpus_extra=str(tmp_path / "extra.jsonl"))
    line = "4 of 14 texts are longer than the 24 tokens the model reads: the rest of them was not read"
    run_of_align.prepare(config, config.for_trainer())
    assert [record.getMessage() for record in caplog.records if "the model reads" in record.getMessage()] == [line]


def test_killed_run_resumes_to_the_same_weights(backbone, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "train.jsonl", MANY)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    config = AlignConfig(
        model=backbone,
        data=str(tmp_path / "train.jsonl"),
        output_dir=str(straight),
        max_length=24,
        learning_rate=1e-2,
        max_steps=60,
        save_steps=18,
        per_device_train_batch_size=5,
        temperature=0.1,
    )
    align(config)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--max-length", "24", "--learning-rate", "1e-2",
        "--max-steps", "60", "--save-steps", "18", "--per-device-train-batch-size", "5", "--temperature", "0.1",
        "--output-dir", str(killed),
    ]  # fmt: skip
    kill_after_checkpoint("lbr_st.cli.align", argv, killed, step=18)
    resumed = []
    load = AlignTrainer._load_from_checkpoint
    monkeypatch.setattr(AlignTrainer, "_load_from_checkpoint", lambda *args: (resumed.append(args[1]), load(*args)))
    run(config, output_dir=str(killed), resume=True)
    assert len(resumed) == 1
    assert same_weights(straight, killed)


@pytest.mark.whole_run
def test_a_whole_run(config, tmp_path, caplog):
    """Trains from a plain backbone, scores dev recall@10 while training, and ends with the portable layout."""
    with caplog.at_level(logging.INFO, logger="lbr_st"):
        run(config, bottleneck_tokens=3, max_steps=-1, num_train_epochs=6, eval_steps=None, query_prompt="q: ")
    assert f"24 pairs with 0 hard negatives from {config.data}; 24 held-out pairs" in caplog.text
    output = tmp_path / "out"
    log = json.loads((output / "training_log.json").read_text())
    recalls = [entry["eval_dev_cosine_recall@10"] for entry in log if "eval_dev_cosine_recall@10" in entry]
    assert len(recalls) >= 5
    ndcg = [entry["eval_dev_cosine_ndcg@10"] for entry in log if "eval_dev_cosine_ndcg@10" in entry]
    assert ndcg[-1] > ndcg[0]
    model = lbr_st.load(str(output))
    assert (model.prompts["query"], model[0].num_bottleneck_tokens, model.max_seq_length) == ("q: ", 3, 24)
    assert (model[0].history[-1]["stage"], model[0].history[-1]["temperature"]) == ("align", 0.02)
    assert json.loads((output / "modules.json").read_text())[0]["type"] == "sentence_transformers.models.Transformer"
    found = HeldOutEvaluator(read_records(tmp_path / "train.jsonl"))(model)
    assert found["dev_cosine_ndcg@10"] == pytest.approx(max(ndcg[1:]))  # the best, not the last
    assert (output / "training.png").read_bytes().startswith(b"\x89PNG")


def test_both_stages_by_length(config, tmp_path):
    """The number of tokens follows the length in training, in checkpoints, and in the model at the end."""
    backbone = make_backbone(tmp_path / "gemma3", family="gemma3")
    stage1 = str(tmp_path / "stage1")
    few = {"max_steps": 2, "learning_rate": 1e-3}
    learn(LearnConfig(model=backbone, data=[config.data], output_dir=stage1, compression_ratio=5, max_length=24, **few))
    config = replace(config, model=stage1, dev_data=None, max_length=None, **few)
    align(config)
    list(verify(tmp_path / "out" / "checkpoints" / "checkpoint-2"))  # as good as the model at the end
    module = lbr_st.load(str(tmp_path / "out"))[0]
    assert (module.compression_ratio, module.num_bottleneck_tokens) == (5, 4)
    stock = SentenceTransformer(str(tmp_path / "out"), trust_remote_code=True, device="cpu")
    assert stock.preprocess(["x" * 9])["input_ids"][0, -2:].tolist() == module.bottleneck_token_ids[-2:]
    with pytest.raises(InputError, match="has --compression-ratio 5; it cannot be opened with --compression-ratio 6"):
        run(config, model=str(tmp_path / "out"), output_dir=str(tmp_path / "no"), compression_ratio=6)


def test_both_stages_nested(config, backbone, tmp_path, monkeypatch):
    """Both draw a first part for each text, stage 2 another one whenever a text comes; a resumed run draws the same."""
    stage1, seen = str(tmp_path / "stage1"), []
    few = {"max_steps": 2, "learning_rate": 1e-3}
    settings = {"bottleneck_tokens": 4, "nested": True, "max_length": 24}
    learn(LearnConfig(model=backbone, data=[config.data], output_dir=stage1, **settings, **few))
    assert lbr_st.load(stage1)[0].history[-1]["nested"] is True
    tokenize = BottleneckTransformer.tokenize_rows

    def watched(module, texts, max_length=None, numbers=None):
        if numbers is not None:
            seen.extend(zip(texts, numbers, strict=True))
        return tokenize(module, texts, max_length, numbers)

    monkeypatch.setattr(BottleneckTransformer, "tokenize_rows", watched)
    config = replace(config, model=stage1, dev_data=None, max_length=None, eval_steps=None, learning_rate=1e-3)
    run(config, max_steps=9, save_steps=3)
    assert {k for _, k in seen} == {1, 2, 3, 4}
    numbers = {text: {k for each, k in seen if each == text} for text, _ in seen}
    assert sum(len(of_text) > 1 for of_text in numbers.values()) > len(numbers) / 2
    module = lbr_st.load(str(tmp_path / "out"))[0]
    assert module.nested and module.num_bottleneck_tokens == 4
    shutil.copytree(tmp_path / "out", tmp_path / "killed")
    cut_off(tmp_path / "killed", 3)
    run(config, max_steps=9, save_steps=3, output_dir=str(tmp_path / "killed"), resume=True)
    assert same_weights(tmp_path / "out", tmp_path / "killed")


def test_nested_is_for_models_with_a_bottleneck(config, model, tmp_path):
    """All of it is said before the data are looked at."""
    few = {"dev_data": None, "max_length": None, "nested": True, "data": "absent.jsonl"}
    bert = make_bert(tmp_path / "bert")
    with pytest.raises(InputError, match="^--nested: .* is an embedding model without .* leave it out, or start from"):
        run(config, model=bert, **few)
    with pytest.raises(
        InputError, match="^--bottleneck-tokens and --nested: .* is an embedding model without bottleneck"
    ):
        run(config, model=bert, **few, bottleneck_tokens=4)
    lbr_st.save(model, tmp_path / "stage1")
    stage1 = {**few, "model": str(tmp_path / "stage1")}
    with pytest.raises(InputError, match="stage1 was not trained with --nested"):
        run(config, **stage1)
    with pytest.raises(InputError, match="stage1 has --bottleneck-tokens 2; it cannot be opened with --bottleneck-t"):
        run(config, **{**stage1, "nested": False}, bottleneck_tokens=4)


def test_stage_2_takes_what_stage_1_left(config, model, tmp_path):
    lbr_st.save(model, tmp_path / "stage1")
    config = replace(config, model=str(tmp_path / "stage1"), dev_data=None, max_length=None, max_steps=1)
    with pytest.raises(InputError, match="has --bottleneck-tokens 2; it cannot be opened with --bottleneck-tokens 1"):
        run(config, output_dir=str(tmp_path / "refused"), bottleneck_tokens=1)
    assert not (tmp_path / "refused").exists()
    run(config, learning_rate=0.0)
    assert same_weights(tmp_path / "stage1", tmp_path / "out")
    again = lbr_st.load(str(tmp_path / "out"))
    assert (again[0].num_bottleneck_tokens, again.max_seq_length) == (2, 24)


def test_the_language_model_is_watched_from_before_the_first_step(config, tmp_path):
    """The loss at step 0 is that of stage 1's own log; the last step is scored too."""
    stage1 = tmp_path / "stage1"
    data = {"data": [config.data], "dev_data": [config.data], "allow_overlap": True}
    learn(LearnConfig(model=config.model, **data, max_length=24, output_dir=str(stage1), max_steps=3))
    run(config, model=str(stage1), max_steps=5)
    log = log_of(tmp_path / "out")
    losses = values(log, "eval_dev_lm_loss")
    assert [step for step, _ in losses] == [0, 2, 4, 5]
    assert losses[0][1] == pytest.approx(values(log_of(stage1), "eval_loss")[-1][1], abs=1e-4)
    ratios = values(log_of(stage1), "eval_dev_separation_ratio")
    assert values(log, "eval_dev_separation_ratio")[0][1] == pytest.approx(ratios[-1][1], abs=1e-4)


def run_and_resume(config):
    """Return the weights of a run, which are also those of the same one cut off after step 2 and gone on with."""
    out = Path(config.output_dir)
    align(config)
    straight = load_file(out / "model.safetensors")
    cut_off(out, 2)
    run(config, resume=True)
    resumed = load_file(out / "model.safetensors")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    return straight


RUIN = {"learning_rate": 0.3, "max_steps": 12}


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_best_checkpoint_is_kept(config, tmp_path, keep):
    """Of a run that unlearns: each query is trained on the answer of another one."""
    good = str(tmp_path / "good")
    run(config, max_steps=30, learning_rate=1e-2, eval_steps=30, output_dir=good)
    answers = [row["answer"] for row in MANY[1:] + MANY[:1]]
    write_jsonl(tmp_path / "wrong.jsonl", [{**row, "answer": a} for row, a in zip(MANY, answers, strict=True)])
    run(config, model=good, data=str(tmp_path / "wrong.jsonl"), max_steps=12, keep=keep, learning_rate=1e-2)
    scores = values(log_of(tmp_path / "out"), "eval_dev_cosine_ndcg@10")[1:]
    best = max(score for _, score in scores)
    assert best > scores[-1][1] + 0.1
    found = HeldOutEvaluator(read_records(tmp_path / "train.jsonl"))(lbr_st.load(str(tmp_path / "out")))
    assert found["dev_cosine_ndcg@10"] == pytest.approx(best if keep == "best" else scores[-1][1], abs=1e-6)


def test_early_stopping_and_a_resumed_run_stop_at_the_same_step(config, tmp_path):
    """A learning rate of 0 makes nothing better: the first evaluation is the best one, and two more are waited for."""
    config = replace(config, early_stopping=2, max_steps=20, learning_rate=0.0, save_total_limit=9)
    align(config)
    out = tmp_path / "out"
    scores = values(log_of(out), "eval_dev_cosine_ndcg@10")
    assert [step for step, _ in scores] == [0, 2, 4, 6]
    for step in (4, 6):  # in the midst of it, and when it had stopped but the model was not saved
        cut_off(out, step)
        run(config, resume=True)
        assert values(log_of(out), "eval_dev_cosine_ndcg@10") == scores


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (
            RUIN,
            [
                "the embeddings have collapsed into one: their variance is 0.00",
                "the embeddings point the same way: the mean cosine of random documents is 0.9",
            ],
        ),
        (
            {"learning_rate": 0.1, "max_steps": 8, "temperature": 0.05, "max_forgetting": 0.3},
            ["the language model forgets: its "],
        ),
    ],
    ids=["collapse", "forgetting"],
)
def test_runs_made_to_fail_are_warned_of(config, caplog, changes, messages):
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        run(config, **changes)
    assert all(message in caplog.text for message in messages)
    assert "step 0" not in caplog.text


def test_a_run_that_goes_well_is_not_warned_of(config, caplog):
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        run(config, max_length=64)
    assert not caplog.records


def test_lora_trains_the_adapter_and_resumes(config, tmp_path, backbone):
    out = tmp_path / "out"
    lora = {"lora_rank": 4, "learning_rate": 1e-1, "lora_dropout": 0.1}
    straight = run_and_resume(replace(config, **lora, save_total_limit=9))
    assert not list((out / "checkpoints").glob("*/model.safetensors"))
    before = load_file(f"{backbone}/model.safetensors")
    layer, embeddings = "model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"
    assert (before[layer] - straight[layer]).abs().max() > 1e-3
    of_text = len(before[embeddings])
    assert torch.equal(before[embeddings], straight[embeddings][:of_text])
    start = lbr_st.from_backbone(backbone, max_seq_length=24)[0].model.get_input_embeddings().weight
    assert not torch.equal(start[of_text:], straight[embeddings][of_text:])


def test_matryoshka_dimensions_are_written_down(config, tmp_path):
    run(config, matryoshka_dims=[8, 16], mini_batch_size=4, symmetric=True)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["matryoshka_dimensions"] == [32, 16, 8]
    model = SentenceTransformer(str(tmp_path / "out"), truncate_dim=8)
    assert model.encode(["a"]).shape == (1, 8)


def test_triplets(config, tmp_path, caplog):
    rows = [{"anchor": p["question"], "positive": p["answer"], "negative": f"not {p['answer']}"} for p in MANY]
    write_jsonl(tmp_path / "train.jsonl", rows)
    with caplog.at_level(logging.INFO, logger="lbr_st"):
        run(config, query_prompt="q: ", document_prompt="d: ")
    assert "24 pairs with 24 hard negatives" in caplog.text
    assert lbr_st.load(str(tmp_path / "out")).prompts == {"query": "q: ", "document": "d: "}


@pytest.mark.slow
def test_a_cached_joint_run_resumes_to_the_same_weights(config):
    run_and_resume(replace(config, mini_batch_size=3, lm_weight=0.5, save_total_limit=9))


def test_joint_training_keeps_the_language_model(config, tmp_path):
    """With a weight the held-out loss falls; the log has both parts."""
    config = replace(config, learning_rate=1e-2, max_steps=12, max_forgetting=100.0, logging_steps=1, temperature=0.05)
    align(config)
    run(config, lm_weight=1.0, output_dir=str(tmp_path / "joint"))
    alone, joint = (values(log_of(tmp_path / name), "eval_dev_lm_loss") for name in ("out", "joint"))
    assert alone[0] == joint[0]
    assert joint[-1][1] < joint[0][1] < alone[-1][1]
    log = log_of(tmp_path / "joint")
    parts = zip(values(log, "contrastive"), values(log, "lm"), values(log, "loss"), strict=True)
    assert all(c[1] + lm[1] == pytest.approx(loss[1], abs=1e-3) for c, lm, loss in parts)


def test_any_embedding_model_is_trained_as_the_kind_it_is(config, tmp_path):
    """The arm of contrastive learning alone: same batches, same loss, and what comes out is of the same kind."""
    bert = make_bert(tmp_path / "bert")
    config = replace(config, model=bert, query_prompt="q: ", save_total_limit=9)
    for name, value in (("lora_rank", 4), ("bottleneck_tokens", 2), ("lm_weight", 1.0)):
        flag = f"--{name.replace('_', '-')}"
        with pytest.raises(InputError, match=f"{flag}: .* is an embedding model without bottleneck tokens"):
            run(config, **{name: value})
    out = tmp_path / "out"
    run_and_resume(config)
    assert not same_weights(Path(bert), out)
    model = SentenceTransformer(str(out))
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize"]
    assert (model.prompts["query"], model.max_seq_length) == ("q: ", 24)
    log = log_of(out)
    assert values(log, "eval_dev_cosine_ndcg@10")[-1][0] == 4
    assert not values(log, "eval_dev_lm_loss")
    assert "sentence-transformers" in (out / "README.md").read_text()
    again = run(config, resume=True)  # finished: it is opened
    assert abs(again.encode(["a"]) - model.encode(["a"])).max() < 1e-6


def test_a_model_is_trained_as_it_is_searched_with(config, tmp_path, caplog):
    """By cosine, which it is saved with, and of the first numbers alone where it keeps those."""
    bert = SentenceTransformer(make_bert(tmp_path / "bert", dropout=0.0), device="cpu", truncate_dim=8)
    bert.similarity_fn_name = "dot"
    del bert[2]
    bert.save_pretrained(str(tmp_path / "start"), create_model_card=False)
    caplog.set_level("INFO")
    model = run(config, model=str(tmp_path / "start"), dev_data=None, allow_overlap=False, max_steps=2)
    assert (model.similarity_fn_name, model.truncate_dim) == ("cosine", 8)
    said = [line.partition("start")[2] for line in caplog.messages if line.startswith("--model")]
    assert said == [
        " compares vectors by dot; here, and in what is saved of it, it is by cosine",
        " keeps the first 8 numbers of its vectors (truncate_dim): these are trained",
    ]
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("start", "out"))
    changed = before["encoder.layer.0.output.LayerNorm.bias"] != after["encoder.layer.0.output.LayerNorm.bias"]
    assert changed.tolist() == [True] * 8 + [False] * 8


def test_stage_1_alone_is_an_embedding_model(config, tmp_path):
    """Stage 2 skipped: what stage 1 saves encodes, scores and verifies."""
    out = str(tmp_path / "stage1")
    learn(LearnConfig(model=config.model, data=[config.data], output_dir=out, max_length=24, max_steps=1))
    list(verify(out))
    model = SentenceTransformer(out)
    assert HeldOutEvaluator(read_records(config.data))(model)["dev_cosine_recall@10"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "--temperature must be above 0, got 0.0"),
        ({"temperature": float("nan")}, "--temperature must be above 0, got nan"),
        ({"mini_batch_size": 0}, "--mini-batch-size must be at least 1, got 0"),
        ({"lm_weight": -1.0}, "--lm-weight must be at least 0, got -1.0"),
        ({"matryoshka_dims": [64]}, "--matryoshka-dims must be from 1 to 32, the width of the"),
        ({"early_stopping": 2, "keep": "last"}, "--early-stopping waits for a better checkpoint"),
        ({"keep": "best", "save_strategy": "no"}, "--keep best needs checkpoints"),
        ({"batch_sampler": "no_duplicates"}, "--batch-sampler, --train-sampling-strategy: batches are made so that"),
        ({"fp16": True}, "--fp16 is for a GPU: on a CPU training would be in float32 all the same"),
        ({"fp16_full_eval": True}, "--fp16-full-eval: an evaluation while training is computed as training is"),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps"},
            "--lr-scheduler-type reduce_lr_on_plateau: stage 2 has no loss on dev to follow",
        ),
        ({"neftune_noise_alpha": 1.0}, "--neftune-noise-alpha: noise on the embeddings would be"),
        ({"auto_find_batch_size": True}, "--auto-find-batch-size: a smaller batch has other negatives"),
        ({"load_best_model_at_end": True, "eval_strategy": "steps"}, "--load-best-model-at-end: say --keep best or"),
        ({"per_device_train_batch_size": 1}, "a pair alone has no negatives"),
        ({"fsdp": True}, "each process holds a whole model; what does not fit is trained with --lora-rank"),
        ({"lora_alpha": 4}, "--lora-alpha is for LoRA"),
        ({"lm_weight": 1.0, "max_length": 200}, "--max-length 200: stage 1 reads a text and its target in one row"),
        ({"dev_data": None, "keep": "last"}, "--keep needs --dev-data"),
        ({"dev_data": None, "early_stopping": 1}, "--early-stopping needs --dev-data"),
        ({"dev_data": None, "corpus_extra": "x.jsonl"}, "--corpus-extra needs --dev-data"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_at_once(config, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        run(config, **changes)
    assert not (tmp_path / "out").exists()


def test_a_pair_alone_is_refused_before_the_model_is_opened(config, monkeypatch):
    monkeypatch.setattr(run_of_align, "_open", lambda config: pytest.fail("the model is opened"))
    with pytest.raises(InputError, match="^--per-device-train-batch-size 1: a pair alone has no negatives$"):
        run(config, per_device_train_batch_size=1)


def test_one_pair_has_no_negatives(config, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", MANY[:1])
    with pytest.raises(InputError, match="need at least 2 pairs, found 1"):
        align(config)


@pytest.mark.parametrize("of", ["language model", "bert"])
def test_attention_is_that_which_was_asked_for(config, tmp_path, monkeypatch, of):
    """In both kinds of models; it belongs to the run and not to the model that is saved."""
    if of == "bert":
        config = replace(config, model=make_bert(tmp_path / "bert"))
    seen = []
    train = lambda trainer, folder: seen.append(trainer.model[0].model.config)  # noqa: E731
    monkeypatch.setattr(run_of_align, "train_to_the_end", train)
    monkeypatch.setattr(run_of_align, "finish", lambda *args: None)
    for name in ("eager", "sdpa"):
        run(config, output_dir=str(tmp_path / name), attention=name)
    assert [config._attn_implementation for config in seen] == ["eager", "sdpa"]


def test_a_run_that_makes_the_model_worse_says_so(config, tmp_path, caplog):
    run(config, max_steps=30, learning_rate=1e-2, eval_steps=30)
    with caplog.at_level(logging.WARNING, logger="lbr_st"):
        run(config, **RUIN, model=str(tmp_path / "out"), output_dir=str(tmp_path / "worse"), eval_steps=6)
    scores = [value for _, value in values(log_of(tmp_path / "worse"), "eval_dev_cosine_ndcg@10")]
    assert f"dev nDCG@10 {scores[0]:.3f} before it, {max(scores[1:]):.3f} at the best after" in caplog.text


def test_a_finished_run_that_was_moved_before_its_model_was_saved(config, tmp_path):
    config = replace(config, **RUIN, eval_steps=6)
    align(config)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    first = load_file(moved / "model.safetensors")
    (moved / "config.json").unlink()
    run(config, output_dir=str(moved), resume=True)
    second = load_file(moved / "model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_dev_corpus_may_have_more_documents(config, tmp_path):
    """Every document of the extra corpus competes."""
    write_jsonl(tmp_path / "extra.jsonl", [{"document": p["answer"] + " too"} for p in MANY])
    run(config, corpus_extra=str(tmp_path / "extra.jsonl"), learning_rate=0.0)
    logged = values(log_of(tmp_path / "out"), "eval_dev_cosine_recall@10")[0][1]
    records, extra = read_records(config.data), read_records(tmp_path / "extra.jsonl", ("document",))
    model = lbr_st.load(str(tmp_path / "out"))  # its weights are those of before
    more, fewer = HeldOutEvaluator(records, extra), HeldOutEvaluator(records)
    assert len(more.corpus) == 2 * len(MANY)
    assert more(model)["dev_cosine_recall@10"] == pytest.approx(logged)
    assert logged < fewer(model)["dev_cosine_recall@10"]


def test_the_dev_corpus_has_the_hard_negatives_of_its_file(config, tmp_path):
    """As `lbr inspect` reads it: without them the verdict, and what is chosen on dev, would be of an easier test."""
    write_jsonl(tmp_path / "dev.jsonl", [{**pair, "negatives": [pair["answer"] + " too"]} for pair in MANY])
    run(config, dev_data=str(tmp_path / "dev.jsonl"), learning_rate=0.0)
    records, others = read_test(tmp_path / "dev.jsonl")
    found = HeldOutEvaluator(records, others)(lbr_st.load(str(tmp_path / "out")))
    logged = values(log_of(tmp_path / "out"), "eval_dev_cosine_recall@10")[0][1]
    assert found["dev_cosine_recall@10"] == pytest.approx(logged)
    assert len(others) == len(MANY) and logged < HeldOutEvaluator(records)(lbr_st.load(str(tmp_path / "out")))[RECALL]


def test_how_often_dev_is_scored_changes_no_weight(config, tmp_path):
    """Where there is dropout, an evaluation must draw none of the run's random numbers."""
    config = replace(config, lora_rank=2, lora_dropout=0.5, keep="last")
    for name, steps in (("often", 1), ("once", 4)):
        run(config, output_dir=str(tmp_path / name), eval_steps=steps)
    assert same_weights(tmp_path / "often", tmp_path / "once")


def test_a_run_of_one_step_trains(config, tmp_path):
    """A warm-up of one step would be the whole of it, at a learning rate of 0."""
    run(config, max_steps=1, dev_data=None)
    before = lbr_st.from_backbone(config.model, max_seq_length=24).state_dict()
    after = lbr_st.load(str(tmp_path / "out")).state_dict()
    name = "0.model.model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(before[name], after[name])
    assert [config.get_warmup_steps(steps) for steps in (1, 10, 11, 100)] == [0, 0, 2, 10]
    [(step, _)] = values(log_of(tmp_path / "out"), "loss")
    assert step == 1


def test_judged_pairs_and_the_least_score(config, tmp_path):
    """Documents below it are hard negatives of training, and no pairs of the dev data."""
    rows = [{"query": f"q{n}", "document": f"{score} {n}", "score": score} for n in range(3) for score in (0.2, 0.9)]
    write_jsonl(tmp_path / "scored.jsonl", rows)
    config = replace(config, data=str(tmp_path / "scored.jsonl"), dev_data=str(tmp_path / "scored.jsonl"))
    with pytest.raises(InputError, match="column 'score' grades the documents .0.2.: say --min-score S"):
        read_data(config)
    data = read_data(replace(config, min_score=0.5))
    assert [(r["query"], r["document"], r["negatives"]) for r in data.train] == [
        (f"q{n}", f"0.9 {n}", [f"0.2 {n}"]) for n in range(3)
    ]
    assert [(r["query"], r["document"]) for r in data.dev] == [(f"q{n}", f"0.9 {n}") for n in range(3)]
