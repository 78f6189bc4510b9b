"""Examples of stage 1 written out, mixtures of them, and what their data looks like."""

import pytest
import torch
from helpers import LONG_PAIR, PAIRS, examples_of, make_backbone

import lbr_st
from lbr_st.errors import InputError
from lbr_st.learning.batches import IGNORE
from lbr_st.learning.examples import ExampleMaker, build_examples, check_fits, mix, strata, with_wrong_source
from lbr_st.learning.objectives import Arm
from lbr_st.learning.run import strata_table
from lbr_st.model.cutoff import BOTTLENECK, PREFIX, SOURCE, TARGET


@pytest.mark.parametrize("bos", [False, True])
def test_sft_example_written_out(tmp_path, bos):
    backbone = make_backbone(tmp_path / "backbone", family="llama" if bos else "qwen2")
    model = lbr_st.from_backbone(backbone, num_bottleneck_tokens=2, max_seq_length=24)
    model.prompts["query"] = "q: "
    tokenizer = model.tokenizer
    [example] = examples_of([{"query": "one", "document": "two"}], model, "sft")
    x = tokenizer("q: one", add_special_tokens=False)["input_ids"]
    y = [*tokenizer("two", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    prefix = [tokenizer.bos_token_id] if bos else []
    assert example["input_ids"] == prefix + x + model[0].bottleneck_token_ids + y
    assert example["segments"] == [PREFIX] * bos + [SOURCE] * len(x) + [BOTTLENECK] * 2 + [TARGET] * len(y)
    assert example["labels"] == [IGNORE] * (bos + len(x) + 2) + y


def test_rows_longer_than_the_model_reads_are_refused(tmp_path):
    model = lbr_st.from_backbone(make_backbone(tmp_path, family="gpt2"), max_seq_length=129)
    with pytest.raises(InputError, match="up to 2 x 129 tokens, and this language model reads 256; .* of 128 at most"):
        check_fits(model[0])
    model.max_seq_length = 128
    check_fits(model[0])


def test_source_is_what_encoding_reads(model):
    """Up to the last bottleneck token an example is exactly what `encode` tokenizes, long texts included."""
    for example, pair in zip(examples_of([*PAIRS, LONG_PAIR], model, "sft"), [*PAIRS, LONG_PAIR], strict=True):
        encoded = model.preprocess([pair["query"]])["input_ids"][0].tolist()
        assert example["input_ids"][: len(encoded)] == encoded


def test_long_target_is_cut_without_eos(model):
    [example] = examples_of([LONG_PAIR], model, "sft")
    targets = [label for label in example["labels"] if label != IGNORE]
    assert len(targets) == 24
    assert model.tokenizer.eos_token_id not in targets


def test_doc2query_is_sft_with_its_sides_exchanged(model):
    pair = {"query": "what raises it", "document": "salt and age"}
    model.prompts |= {"query": "ask ", "document": "a text "}
    [example] = examples_of([pair], model, "doc2query")
    model.prompts |= {"query": "a text ", "document": "ask "}
    [expected] = examples_of([{"query": pair["document"], "document": pair["query"]}], model, "sft")
    assert example == expected


def test_reconstruct_reads_and_predicts_the_document(model):
    [example] = examples_of([{"document": "salt and age"}], model, "reconstruct")
    ids = model.tokenizer("salt and age", add_special_tokens=False)["input_ids"]
    assert example["input_ids"] == [*ids, *model[0].bottleneck_token_ids, *ids, model.tokenizer.eos_token_id]


def test_prefix_suffix_goes_on_where_the_prefix_ends(model):
    short = "Salt, weight and age raise blood pressure."
    numbers = " ".join(map(str, range(100)))
    tokenizer, k = model.tokenizer, 2
    for text in (short, numbers):
        [example] = examples_of([{"document": text}], model, "prefix-suffix")
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
    [example] = examples_of([{"document": numbers}], model, "prefix-suffix")
    parts = {
        part: [i for i, s in zip(example["input_ids"], example["segments"], strict=True) if s == part]
        for part in (SOURCE, TARGET)
    }
    assert ("passage: " + numbers).startswith(tokenizer.decode(parts[SOURCE]) + tokenizer.decode(parts[TARGET]))


def test_mixture_has_the_shares_asked_for_and_every_example(model):
    documents = [{"query": f"q {n}", "document": f"d {n}"} for n in range(300)]
    weights = {"sft": 0.7, "reconstruct": 0.3}
    examples = {
        "sft": examples_of(documents, model, "sft"),
        "reconstruct": examples_of(documents[:50], model, "reconstruct"),
    }
    mixed = [tuple(ids) for ids in mix(examples, weights, seed=0)["input_ids"]]
    sft = {tuple(ids) for ids in examples["sft"]["input_ids"]}
    assert {*mixed} == sft | {tuple(ids) for ids in examples["reconstruct"]["input_ids"]}
    assert sum(ids in sft for ids in mixed) == 300
    assert len(mixed) == 429  # 300 are 70% of 429
    assert 0.5 < sum(ids in sft for ids in mixed[:100]) / 100 < 0.9
    assert mixed == [tuple(ids) for ids in mix(examples, weights, seed=0)["input_ids"]]


@pytest.mark.parametrize("bos", [False, True])
def test_controls_written_out(tmp_path, bos):
    """Plain fine-tuning sees X; plain pretraining has no X, and its first token has nothing to be predicted from."""
    model = lbr_st.from_backbone(make_backbone(tmp_path, family="llama" if bos else "qwen2"), max_seq_length=24)
    model.prompts |= {"query": "q: ", "document": "d: "}
    tokenizer, prefix = model.tokenizer, [model.tokenizer.bos_token_id] if bos else []
    x = tokenizer("q: one", add_special_tokens=False)["input_ids"]
    y = [*tokenizer("two", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    [sft] = examples_of([{"query": "one", "document": "two"}], model, "sft", arm=Arm.PLAIN)
    assert sft["input_ids"] == prefix + x + y
    assert sft["segments"] == [PREFIX] * len(prefix + x) + [TARGET] * len(y)
    assert sft["labels"] == [IGNORE] * len(prefix + x) + y
    [plain] = examples_of([{"document": "two"}], model, "reconstruct", arm=Arm.PLAIN)
    assert plain["input_ids"] == prefix + y
    assert plain["labels"] == [IGNORE, *(y if bos else y[1:])]


def parts_of(example):
    return [
        [i for i, s in zip(example["input_ids"], example["segments"], strict=True) if s == part]
        for part in (SOURCE, TARGET)
    ]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_prefix_share(model, share):
    model.max_seq_length = 200
    text = " ".join(map(str, range(30)))
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    [example] = examples_of([{"document": text}], model, "prefix-suffix", prefix_share=(share, share))
    x, y = parts_of(example)
    assert x + y == [*ids, model.tokenizer.eos_token_id]
    assert abs(len(x) - share * len(ids)) <= 1
    model.max_seq_length = 24  # X and Y are cut, and Y still goes on where X ends
    [example] = examples_of([{"document": text}], model, "prefix-suffix", prefix_share=(share, share))
    x, y = parts_of(example)
    assert len(x) <= 22 and len(y) <= 24 and (len(x) >= 21 or len(y) >= 23)
    assert x + y == ids[: len(x + y)]
    assert abs(len(x) - share * len(x + y)) <= 1


def test_drawn_prefix_share_is_within_bounds_and_the_same_again(model):
    model.max_seq_length = 200
    records = [{"document": f"{n} " + " ".join(map(str, range(30)))} for n in range(40)]

    def shares(seed):
        examples = examples_of(records, model, "prefix-suffix", prefix_share=(0.2, 0.8), seed=seed)
        return [len(x) / (len(x) + len(y) - 1) for x, y in map(parts_of, examples)]

    found = shares(0)
    assert 0.18 < min(found) < 0.3 < 0.7 < max(found) < 0.82
    assert found == shares(0) != shares(1)


@pytest.mark.parametrize("ratio", [10, 100, 1000])
def test_strata_count_tokens(tmp_path, ratio):
    """k = clamp(ceil(|X| / R), 1, K), and what the log says of it, against counts by hand."""
    model = lbr_st.from_backbone(make_backbone(tmp_path), compression_ratio=ratio, max_seq_length=120)
    texts = ["a", "one two", "x " * 70, "x " * 90]
    examples = examples_of([{"query": text, "document": "so"} for text in texts], model, "sft")
    lengths = [len(parts_of(example)[0]) for example in examples]
    ks = [example["segments"].count(BOTTLENECK) for example in examples]
    assert ks == [min(max(-(-n // ratio), 1), model[0].num_bottleneck_tokens) for n in lengths]
    y = len(parts_of(examples[0])[1])
    expected = []
    for low, high in ((0, 64), (65, 128)):
        of = [n for n, length in enumerate(lengths) if low <= length <= high]
        expected.append(
            {"from": low, "to": high, "examples": 2, "source_tokens": sum(lengths[n] for n in of),
             "bottleneck_tokens": sum(ks[n] for n in of), "least_bottleneck_tokens": min(ks[n] for n in of),
             "most_bottleneck_tokens": max(ks[n] for n in of), "target_tokens": 2 * y}
        )  # fmt: skip
    assert strata(examples) == expected


def test_wrong_bottleneck_is_another_x_and_the_same_y(model):
    records = [{"query": q, "document": d} for q, d in (("a", "one"), ("a", "two"), ("b", "three"), ("a", "four"))]
    own = examples_of(records, model, "sft")
    wrong = with_wrong_source(own)
    assert len(wrong) == len(own)
    for mine, other in zip(own, wrong, strict=True):
        assert parts_of(mine)[1] == parts_of(other)[1] == [i for i in other["labels"] if i != IGNORE]
        assert parts_of(mine)[0] != parts_of(other)[0]
        assert other["segments"].count(BOTTLENECK) == 2
        assert len(other["input_ids"]) == len(other["segments"]) == len(other["labels"])
    assert with_wrong_source(examples_of(records[:2], model, "sft")) is None


def test_no_weights_are_hashed_for_examples(model):
    """The library that maps over records would pickle the model to make a fingerprint: 4 bytes a parameter."""
    pickled = []

    class Watched(torch.nn.Module):
        def __reduce_ex__(self, protocol):
            pickled.append(self)
            return super().__reduce_ex__(protocol)

    model[0].model.watched = Watched()
    assert len(build_examples(PAIRS, ExampleMaker(model, "sft"))) == len(PAIRS)
    assert not pickled


def test_table_of_strata():
    rows = [
        {"from": 0, "to": 64, "examples": 1200, "source_tokens": 5, "bottleneck_tokens": 1200,
         "least_bottleneck_tokens": 1, "most_bottleneck_tokens": 1, "target_tokens": 7},
        {"from": 65, "to": 128, "examples": 2, "source_tokens": 200, "bottleneck_tokens": 5,
         "least_bottleneck_tokens": 2, "most_bottleneck_tokens": 3, "target_tokens": 9},
    ]  # fmt: skip
    assert strata_table(rows).splitlines() == [
        "tokens of X  examples  tokens of X in all  bottleneck tokens  of an example  tokens of Y",
        "    0 to 64     1,200                   5              1,200         1 to 1            7",
        "  65 to 128         2                 200                  5         2 to 3            9",
    ]


TARGETS = [
    {"query": "one", "document": "4", "target": [("why", "äö two."), (None, "\n"), ("answer", "4")]},
    {"query": "two", "document": "4", "target": [("why", "age " * 40), (None, "\n"), ("answer", "4")]},
]


def test_target_of_several_fields(model):
    """Y is the target, and each of its tokens is marked; of one that is cut, what is left."""
    short, long = examples_of(TARGETS, model, parts=("why", "answer"))
    tokenizer = model.tokenizer
    y = [*tokenizer("äö two.\n4", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    at = short["segments"].index(TARGET)
    assert short["labels"][at:] == y
    marks = [(1, 0)] * len(tokenizer("äö two.", add_special_tokens=False)["input_ids"]) + [(0, 0), (0, 1), (0, 0)]
    assert [*map(tuple, short["parts"])] == [(0, 0)] * at + marks
    assert [*map(tuple, long["parts"])] == [(0, 0)] * long["segments"].index(TARGET) + [(1, 0)] * 24
    # Without marks, and for objectives that do not read it.
    plain = examples_of(TARGETS, model)[0]
    assert plain == {name: short[name] for name in ("input_ids", "segments", "labels")}
    wrong = with_wrong_source(examples_of(TARGETS, model, parts=("why", "answer")))[0]
    assert wrong["parts"][-len(y) :] == short["parts"][-len(y) :]
    assert len(wrong["parts"]) == len(wrong["input_ids"])
    # Tokens of two pieces are of the field that they begin in, or that begins in them.
    tokenizer.add_tokens(["x 4", ".\n"])
    [straddling] = examples_of([{**TARGETS[0], "target": [("why", "a."), (None, "\nx "), ("answer", "4")]}], model,
                               parts=("why", "answer"))  # fmt: skip
    assert [*map(tuple, straddling["parts"])][-4:] == [(1, 0), (1, 0), (0, 1), (0, 0)]
