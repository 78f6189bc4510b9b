"""Stage 1: examples written out, the loss against an independent computation, and runs that resume."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import SHAPE, TEXTS, make_backbone
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, TrainerCallback, TrainingArguments

import lbr_st
from lbr_st import ibgl
from lbr_st.errors import InputError
from lbr_st.files import write_jsonl
from lbr_st.ibgl import IGNORE, IBGLModel, IBGLTrainer, build_examples, check_fits, collate, main
from lbr_st.masks import BOTTLENECK, PREFIX, SOURCE, TARGET, cutoff_mask

ROOT = Path(__file__).parent.parent
PAIRS = [{"query": q, "document": d} for q, d in zip(TEXTS[::2], TEXTS[1::2], strict=True)]
SHORT_PAIR = {"query": "why", "document": "so"}
LONG_PAIR = {"query": "why " * 50, "document": "because " * 50}


@pytest.mark.parametrize("bos", [False, True])
def test_sft_example_written_out(tmp_path, bos):
    backbone = make_backbone(tmp_path / "backbone", family="llama" if bos else "qwen2")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24)
    model.prompts["query"] = "q: "
    tokenizer = model.tokenizer
    [example] = build_examples([{"query": "one", "document": "two"}], model, "sft")
    x = tokenizer("q: one", add_special_tokens=False)["input_ids"]
    y = [*tokenizer("two", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    prefix = [tokenizer.bos_token_id] if bos else []
    assert example["input_ids"] == prefix + x + model[0].bottleneck_token_ids + y
    assert example["segments"] == [PREFIX] * bos + [SOURCE] * len(x) + [BOTTLENECK] * 2 + [TARGET] * len(y)
    assert example["labels"] == [IGNORE] * (bos + len(x) + 2) + y


def test_hidden_bos_stays_hidden_in_a_second_stage_1(tmp_path):
    backbone = make_backbone(tmp_path / "backbone", family="llama")
    write_jsonl(tmp_path / "train.jsonl", PAIRS)
    argv = ["--data", str(tmp_path / "train.jsonl"), "--max-steps", "1"]
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    main(["--model", backbone, "--output-dir", first, "--hide-bos", "--max-length", "24", *argv])
    main(["--model", first, "--output-dir", second, *argv])
    assert lbr_st.load(second)[0].hide_bos


def test_hidden_bos_is_part_of_the_source(tmp_path):
    model = lbr_st.from_backbone(make_backbone(tmp_path, family="llama"), max_seq_length=24)
    model[0].hide_bos = True
    [example] = build_examples([{"query": "one", "document": "two"}], model, "sft")
    assert example["input_ids"][0] == model.tokenizer.bos_token_id
    assert example["segments"][0] == SOURCE
    assert PREFIX not in example["segments"]


def test_bottleneck_of_mixed_length(tmp_path):
    """With a compression ratio each example has its own k, in one batch; the last token is the same in all."""
    model = lbr_st.from_backbone(make_backbone(tmp_path, family="llama"), compression_ratio=5, max_seq_length=24)
    examples = build_examples([SHORT_PAIR, *PAIRS, LONG_PAIR], model, "sft")
    number = [example["segments"].count(BOTTLENECK) for example in examples]
    assert (min(number), max(number)) == (1, 4)
    for example, pair in zip(examples, [SHORT_PAIR, *PAIRS, LONG_PAIR], strict=True):
        parts = example["segments"]
        assert parts == sorted(parts)  # BOS, source, bottleneck, target
        encoded = model.preprocess([pair["query"]])["input_ids"][0].tolist()
        assert example["input_ids"][: len(encoded)] == encoded
        assert parts.index(TARGET) == len(encoded)
    batch = collate(list(examples))
    mean = IBGLModel(model[0].model)(**batch)["loss"]
    targets = [sum(label != IGNORE for label in example["labels"]) for example in examples]
    alone = [IBGLModel(model[0].model)(**collate([example]))["loss"] for example in examples]
    expected = sum(loss * n for loss, n in zip(alone, targets, strict=True)) / sum(targets)
    assert abs(mean - expected) < 1e-5


def test_rows_longer_than_the_model_reads_are_refused(tmp_path):
    model = lbr_st.from_backbone(make_backbone(tmp_path, family="gpt2"), max_seq_length=129)
    with pytest.raises(InputError, match="up to 2 x 129 tokens, and this language model reads 256; .* of 128 at most"):
        check_fits(model[0])
    model.max_seq_length = 128
    check_fits(model[0])


def test_source_is_what_encoding_reads(model):
    """Up to the last bottleneck token an example is exactly what `encode` tokenizes, long texts included."""
    for example, pair in zip(build_examples([*PAIRS, LONG_PAIR], model, "sft"), [*PAIRS, LONG_PAIR], strict=True):
        encoded = model.preprocess([pair["query"]])["input_ids"][0].tolist()
        assert example["input_ids"][: len(encoded)] == encoded


def test_long_target_is_cut_without_eos(model):
    [example] = build_examples([LONG_PAIR], model, "sft")
    targets = [label for label in example["labels"] if label != IGNORE]
    assert len(targets) == 24
    assert model.tokenizer.eos_token_id not in targets


def test_reconstruct_reads_and_predicts_the_document(model):
    [example] = build_examples([{"document": "salt and age"}], model, "reconstruct")
    ids = model.tokenizer("salt and age", add_special_tokens=False)["input_ids"]
    assert example["input_ids"] == [*ids, *model[0].bottleneck_token_ids, *ids, model.tokenizer.eos_token_id]


def test_prefix_suffix_goes_on_where_the_prefix_ends(model):
    short = "Salt, weight and age raise blood pressure."
    numbers = " ".join(map(str, range(100)))
    tokenizer, k = model.tokenizer, 2
    for text in (short, numbers):
        [example] = build_examples([{"document": text}], model, "prefix-suffix")
        segments = example["segments"]
        x = [i for i, s in zip(example["input_ids"], segments, strict=True) if s == SOURCE]
        y = [i for i, s in zip(example["input_ids"], segments, strict=True) if s == TARGET]
        assert (y[-1] == tokenizer.eos_token_id) == (text == short)  # the end of the long document was cut
        y = y[:-1] if text == short else y
        assert text.startswith(tokenizer.decode(x) + tokenizer.decode(y))
        assert abs(len(x) - len(y)) <= 1
        assert len(x) <= 24 - k
    assert len(x) == 24 - k  # the long document fills X
    model.prompts["document"] = "passage: "
    [example] = build_examples([{"document": numbers}], model, "prefix-suffix")
    parts = {
        part: [i for i, s in zip(example["input_ids"], example["segments"], strict=True) if s == part]
        for part in (SOURCE, TARGET)
    }
    assert ("passage: " + numbers).startswith(tokenizer.decode(parts[SOURCE]) + tokenizer.decode(parts[TARGET]))


def test_collate_pads_on_the_right():
    batch = collate(
        [
            {"input_ids": [5, 6, 7], "segments": [1, 2, 3], "labels": [-100, -100, 7]},
            {"input_ids": [5], "segments": [1], "labels": [-100]},
        ]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["segments"].tolist() == [[1, 2, 3], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, -100, 7], [-100, -100, -100]]


def two_pass_loss(model, pair):
    """Sum and count of the loss by hand: run X and Z, keep the keys and values of Z alone, then read Y from them."""
    module, language_model = model[0], model[0].model
    x = model.preprocess([pair["query"]])["input_ids"]
    y = torch.tensor([[*model.tokenizer(pair["document"])["input_ids"][:-2], model.tokenizer.eos_token_id]])
    first = language_model(x, use_cache=True, past_key_values=DynamicCache())
    k, length = module.num_bottleneck_tokens, x.shape[1]
    kept = DynamicCache()
    for index, layer in enumerate(first.past_key_values.layers):
        kept.update(layer.keys[:, :, -k:], layer.values[:, :, -k:], index)
    positions = torch.arange(length, length + y.shape[1])[None]
    mask = torch.ones(1, k + y.shape[1], dtype=torch.long)
    second = language_model(y, past_key_values=kept, position_ids=positions, attention_mask=mask)
    logits = torch.cat([first.logits[:, -1:], second.logits[:, :-1]], dim=1)[0]
    return torch.nn.functional.cross_entropy(logits, y[0], reduction="sum"), y.shape[1]


def test_loss_is_the_mean_over_target_tokens_of_the_batch(model):
    """Sequences of different lengths in one batch against each one by hand, in two passes."""
    model.max_seq_length = 100
    batch = collate(list(build_examples(PAIRS, model, "sft")))
    loss = IBGLModel(model[0].model)(**batch)["loss"]
    sums, counts = zip(*(two_pass_loss(model, pair) for pair in PAIRS), strict=True)
    assert len(set(counts)) > 1
    assert abs(loss - sum(sums) / sum(counts)) < 1e-5


def test_loss_of_a_zeroed_head_is_the_log_of_the_vocabulary(tmp_path):
    model = lbr_st.from_backbone(make_backbone(tmp_path / "backbone", tied=False), max_seq_length=24)
    head = model[0].model.get_output_embeddings()
    torch.nn.init.zeros_(head.weight)
    loss = IBGLModel(model[0].model)(**collate(list(build_examples(PAIRS, model, "sft"))))["loss"]
    assert abs(loss.item() - math.log(head.weight.shape[0])) < 1e-5


def test_head_runs_on_target_rows_only(model):
    seen = []
    training_model = IBGLModel(model[0].model)
    model[0].model.get_output_embeddings().register_forward_hook(lambda m, args, out: seen.append(out.shape))
    batch = collate(list(build_examples(PAIRS, model, "sft")))
    training_model(**batch)
    targets = int((batch["labels"] != IGNORE).sum())
    assert seen == [(targets, model[0].model.config.vocab_size)]


@pytest.mark.parametrize(
    ("model_type", "extra"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0}),
        ("cohere2", {"logit_scale": 0.0625}),
        ("granite", {"logits_scaling": 8.0}),
        ("qwen2", {}),
    ],
)
def test_loss_is_that_of_the_logits_the_model_generates_with(model_type, extra):
    """Some families cap or scale what their head gives."""
    settings = SHAPE | {"vocab_size": 50, "pad_token_id": 0} | extra
    torch.manual_seed(0)
    language_model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(model_type, **settings), attn_implementation="eager"
    ).eval()
    ids = torch.randint(1, 50, (1, 9), generator=torch.Generator().manual_seed(1))
    segments = torch.tensor([[SOURCE] * 4 + [BOTTLENECK] * 2 + [TARGET] * 3])
    labels = torch.where(segments == TARGET, ids, IGNORE)
    found = IBGLModel(language_model)(ids, torch.ones_like(ids), segments, labels)["loss"]
    mask = cutoff_mask(
        language_model.config, language_model.get_input_embeddings()(ids), torch.ones_like(ids), segments
    )
    logits = language_model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    expected = torch.nn.functional.cross_entropy(logits[0, 5:8], ids[0, 6:])
    assert abs(found - expected) < 1e-5


def gradients_after_one_step(model, tmp_path, **arguments):
    args = TrainingArguments(
        output_dir=str(tmp_path / "out"), use_cpu=True, max_steps=1, learning_rate=0.0, report_to="none",
        save_strategy="no", max_grad_norm=0, disable_tqdm=True, **arguments,
    )  # fmt: skip
    trainer = IBGLTrainer(model, args=args, train_dataset=build_examples([SHORT_PAIR, LONG_PAIR] * 2, model, "sft"))
    gradients = {}
    step = torch.optim.AdamW.step

    def keep_gradients(self, *args, **kwargs):
        gradients.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = keep_gradients
    try:
        trainer.train()
    finally:
        torch.optim.AdamW.step = step
    return gradients


def test_accumulation_gives_the_gradients_of_the_large_batch(model, tmp_path):
    """Micro-batches have different numbers of targets; a mean of their means would weigh them alike."""
    import copy

    large = gradients_after_one_step(copy.deepcopy(model), tmp_path, per_device_train_batch_size=4)
    small = gradients_after_one_step(
        copy.deepcopy(model), tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4
    )
    assert large.keys() == small.keys()
    scale = max(g.abs().max() for g in large.values())
    assert scale > 1e-3
    for name in large:
        assert (large[name] - small[name]).abs().max() < 1e-5 * scale


# One process that starts main(argv) of a module.
RUN = "import sys, importlib; importlib.import_module(sys.argv[1]).main(sys.argv[2:])"


def kill_after_checkpoint(module: str, argv: list[str], output_dir: Path, step: int) -> None:
    """Start a run and kill it (SIGKILL) once the checkpoint of ``step`` is there."""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", RUN, module, *argv], env=env, stderr=subprocess.DEVNULL)
    state = output_dir / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json"
    deadline = time.monotonic() + 120
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    assert not (output_dir / "config.json").exists()


def same_weights(first: Path, second: Path) -> bool:
    one, two = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


def test_killed_run_resumes_to_the_same_weights(backbone, tmp_path, monkeypatch):
    write_jsonl(tmp_path / "train.jsonl", PAIRS * 8)
    argv = [
        "--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--max-length", "24", "--learning-rate", "1e-2",
        "--max-steps", "58", "--save-steps", "20", "--per-device-train-batch-size", "4",
        "--lr-scheduler-type", "constant",  # 58 steps end within an epoch, at full rate: one step more would show
    ]  # fmt: skip
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    ibgl.main([*argv, "--output-dir", str(straight)])
    argv += ["--output-dir", str(killed)]
    kill_after_checkpoint("lbr_st.ibgl", argv, killed, step=20)
    with pytest.raises(InputError, match="not empty; choose another, or add --resume"):
        ibgl.main(argv)
    with pytest.raises(InputError, match="other settings .*learning_rate: was 0.01, now 0.02"):
        ibgl.main([*argv, "--learning-rate", "2e-2", "--resume"])
    resumed = []
    load = IBGLTrainer._load_from_checkpoint
    monkeypatch.setattr(IBGLTrainer, "_load_from_checkpoint", lambda *args: (resumed.append(args[1]), load(*args)))
    ibgl.main([*argv, "--resume"])
    assert len(resumed) == 1
    assert same_weights(straight, killed)
    before = (killed / "model.safetensors").stat().st_mtime_ns
    ibgl.main([*argv, "--resume"])  # finished: nothing to do
    assert (killed / "model.safetensors").stat().st_mtime_ns == before
    for name in ("config.json", "model.safetensors"):  # as a kill after the last step leaves it
        (killed / name).unlink()
    ibgl.main([*argv, "--resume"])
    assert same_weights(straight, killed)
    assert not (killed / "checkpoints" / "checkpoint-59").exists()


def test_load_best_model_at_end_brings_back_its_weights(model, tmp_path):
    """The learning rate blows the model up after its first evaluation, so the first checkpoint is the best."""
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=4, learning_rate=0.0, report_to="none", save_steps=1,
        eval_strategy="steps", eval_steps=1, load_best_model_at_end=True, disable_tqdm=True, prediction_loss_only=True,
    )  # fmt: skip
    data = build_examples(PAIRS, model, "sft")

    class BlowUp(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step > 0:
                torch.nn.init.normal_(model[0].model.get_input_embeddings().weight, std=10.0)

    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = IBGLTrainer(model, args=args, train_dataset=data, eval_dataset=data, callbacks=[BlowUp()])
    trainer.train()
    assert trainer.state.best_global_step == 1
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_a_checkpoint_cut_off_by_a_kill_is_passed_over(tmp_path):
    from lbr_st.training import last_whole_checkpoint

    for step, state in ((2, '{"global_step": 2}'), (10, '{"global_step": 10}'), (12, '{"glob')):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoints" / "checkpoint-14").mkdir()
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoints" / "checkpoint-10")


@pytest.mark.parametrize("objective", ibgl.OBJECTIVES)
def test_script(backbone, tmp_path, objective):
    """Each objective trains, lowers its loss, and leaves a model whose history says how it was made."""
    rows = PAIRS * 8 if objective == "sft" else [{"document": pair["document"]} for pair in PAIRS] * 8
    write_jsonl(tmp_path / "train.jsonl", rows)
    ibgl.main(
        ["--model", backbone, "--data", str(tmp_path / "train.jsonl"), "--dev-data", str(tmp_path / "train.jsonl"),
         "--output-dir", str(tmp_path / "out"), "--objective", objective, "--max-length", "24", "--learning-rate",
         "1e-2", "--num-train-epochs", "4", "--per-device-train-batch-size", "8", "--document-prompt", "d: "]
    )  # fmt: skip
    losses = [
        entry["eval_loss"]
        for entry in json.loads((tmp_path / "out" / "training_log.json").read_text())
        if "eval_loss" in entry
    ]
    assert len(losses) >= 4
    assert losses[-1] < losses[0]
    model = lbr_st.load(str(tmp_path / "out"))
    assert model.prompts == {"query": "", "document": "d: "}
    assert model[0].num_bottleneck_tokens == 1
    [stage] = model[0].history
    assert (stage["stage"], stage["objective"], stage["data"]) == ("ibgl", objective, "train.jsonl")
