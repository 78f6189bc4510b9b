"""The benchmark of encoding, at toy size: all its parts, and figures by another way of counting."""

import contextlib
import json
import statistics
import types

import numpy as np
import pytest
import torch

from lbr_st.errors import InputError
from lbr_st.files import write_json


@pytest.mark.slow
def test_program_of_encode_speed(tmp_path, monkeypatch):
    """Every part of both shapes; figures are those of the files; what was measured is not measured again."""
    import encode_speed
    import results

    encode_speed.main(["--scale", "tiny", "--parts", "135m-mixed", "135m-passages", "135m-prompt64", "135m-profile"])
    summary = tmp_path / "results" / "encode_speed_tiny" / "summary.json"
    assert not any(name.endswith("_0_5b") for name in json.loads(summary.read_text())["figures"])
    encode_speed.main(["--scale", "tiny"])
    figures = json.loads(summary.read_text())["figures"]

    def found(part):
        return results.read_arm("encode_speed_tiny", part, 0)["found"]

    assert {part for part in encode_speed.NAMES if found(part)} == set(encode_speed.NAMES)
    for shape, end in (("135m", ""), ("0_5b", "_0_5b")):
        of_part = found(f"{shape}-mixed")
        seconds = of_part["seconds"]
        medians = {arm: np.median(each) for arm, each in seconds.items()}
        best = min((median, arm) for arm, median in medians.items() if arm.startswith("stock"))[1]
        for name, other in (("stock", best), ("default", "default")):
            ratios = np.array(seconds[other]) / np.array(seconds["ours"])
            assert figures[f"throughput_vs_{name}_mixed{end}"] == pytest.approx(np.median(ratios), abs=1e-4)
            assert figures[f"throughput_vs_{name}_mixed_max{end}"] == pytest.approx(ratios.max(), abs=1e-4)
        assert figures[f"batch_size_stock_mixed{end}"] == int(best.split("_")[1])
        assert of_part["least_cosine"] > 0.999 and of_part["longest"] <= 512
        # What is encoded 32 at once: all texts, each as long as the longest.
        assert of_part["tokens_computed"]["default"] == of_part["texts"] * of_part["longest"]
        padding = 1 - of_part["tokens"] / of_part["tokens_computed"]["ours"]
        assert figures[f"share_of_padding_mixed{end}"] == pytest.approx(padding, abs=1e-4) and padding >= 0
        assert of_part["tokens_computed"]["ours"] < of_part["tokens_computed"]["default"]
    prompted, plain = found("135m-prompt64"), found("135m-queries")
    assert prompted["texts"] == plain["texts"] == 24 and prompted["tokens"] == plain["tokens"] + 24 * 64
    passages = found("135m-passages")
    # Of a layer: queries and what attention gives 32 x 32, keys and values 32 x 16, three of 32 x 64; two layers.
    weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    shares = [
        2 * weights * passages["tokens"] / took / rate
        for took, rate in zip(passages["seconds"]["ours"], passages["matmul_rates"], strict=True)
    ]
    assert figures["share_of_matmul_rate_passages"] == pytest.approx(statistics.median(shares), abs=1e-4)
    profiled = found("135m-profile")
    shares = [figures[f"share_of_{group}"] for group in encode_speed.GROUPS]
    assert sum(shares) == pytest.approx(1, abs=0.01) and min(shares) > 0
    assert 0 <= figures["share_of_padding"] < 0.5 and profiled["batches"] > 1 and profiled["seconds_tokenizer"] > 0
    monkeypatch.setattr(encode_speed, "Bench", lambda *args: pytest.fail("measured again"))
    encode_speed.main(["--scale", "tiny"])
    assert json.loads(summary.read_text())["figures"] == figures
    file = results.arm_path("encode_speed_tiny", "0_5b-queries", 0)
    write_json(file, json.loads(file.read_text()) | {"settings": {"scale": "tiny"}})
    with pytest.raises(InputError, match="0_5b-queries-seed0.json was measured with other settings"):
        encode_speed.main(["--scale", "tiny", "--parts", "0_5b-queries"])


def test_texts_have_what_the_protocol_says():
    from encode_speed import text_lengths

    queries = text_lengths("queries", 300, 0)
    assert {queries.count(tokens) for tokens in range(6, 21)} == {20} and queries != sorted(queries)
    passages = text_lengths("passages", 4000, 0)
    assert np.median(passages) == pytest.approx(120, rel=0.05) and min(passages) >= 5 and max(passages) == 512
    within = np.log([each for each in passages if 5 < each < 512])
    assert np.std(within) == pytest.approx(0.67, abs=0.05)
    mixed = text_lengths("mixed", 200, 0)
    assert sorted(mixed) == sorted(text_lengths("queries", 100, 0) + text_lengths("passages", 100, 0))
    assert text_lengths("mixed", 200, 0) == mixed and text_lengths("mixed", 200, 1) != mixed


def test_batch_sizes_are_tried_until_they_are_slow():
    """The first run counts for nothing; what has all texts in a batch is the last; the nearly best is repeated."""
    from encode_speed import repeated_sizes, stock_speeds

    asked = []

    def seconds_of(size):
        asked.append(size)
        return {4: 1.0, 8: 0.5, 16: 0.52, 32: 0.6, 64: 0.64}[size]

    speeds = stock_speeds(seconds_of, 100)
    assert asked == [4, 4, 8, 16, 32, 64] and speeds["8"] == 200
    assert repeated_sizes(speeds) == [8, 16]
    assert list(stock_speeds(lambda size: 1 / size, 20)) == ["4", "8", "16", "32"]
    assert repeated_sizes({"4": 1.0, "8": 2.0}) == [8]


@pytest.mark.parametrize(
    ("bfloat16", "cosine", "expected"),
    [(1.0, 0.9991, "bfloat16"), (1.0, 0.9989, "float32"), (3.0, 1.0, "float32")],
)
def test_which_precision_is_taken(bfloat16, cosine, expected):
    from encode_speed import chosen_precision, least_cosine

    assert chosen_precision({"float32": 2.0, "bfloat16": bfloat16}, cosine) == expected
    one, other = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[2.0, 0.0], [4.0, 3.0]])
    assert least_cosine(one, other) == pytest.approx(24 / 25)


def test_figures_of_known_seconds():
    from encode_speed import figures_of

    found = {
        "precision": "bfloat16", "tokens": 600, "batch_tokens": 512, "operations": 6e9, "matmul_rates": [4e9, 3e9, 4e9],
        "seconds": {"ours": [2.0, 3.0, 4.0], "stock_8": [9.0, 3.0, 6.0], "stock_16": [5.0, 6.0, 6.0]},
        "tokens_computed": {"ours": 625, "stock_8": 800, "stock_16": 1200},
    }  # fmt: skip
    figures = figures_of("0_5b-passages", found)
    # Of 8 and 16 texts at once both have a median of 6 seconds: the first.
    assert figures["batch_size_stock_passages_0_5b"] == 8
    names = [f"throughput_vs_stock_passages{end}_0_5b" for end in ("_min", "", "_max")]
    assert [figures[name] for name in names] == [1.0, 1.5, 4.5]
    padding = [figures[f"share_of_padding{end}_passages_0_5b"] for end in ("", "_stock")]
    assert padding == [pytest.approx(0.04), pytest.approx(0.25)]
    assert figures["share_of_matmul_rate_passages_0_5b"] == pytest.approx(2 / 3, abs=1e-4)  # of 0.75, 0.667 and 0.375
    assert figures["tokens_per_second_passages_0_5b"] == 200 and figures["tokens_per_second_stock_passages_0_5b"] == 100


def test_operations_are_grouped():
    from encode_speed import figures_of, grouped

    took = {
        "aten::addmm": 3.0, "aten::mm": 1.0, "aten::_scaled_dot_product_flash_attention_for_cpu": 1.0, "aten::mul": 0.5,
        "aten::embedding": 0.5,
    }  # fmt: skip
    groups = grouped(took, 8.0)
    assert groups == {"matrix_products": 4.0, "attention": 1.0, "norms_and_other": 1.0, "python": 2.0}
    found = {"seconds": 8.0, "seconds_of_groups": groups, "seconds_tokenizer": 2.0, "tokens": 50, "padding": 5}
    figures = figures_of("135m-profile", found)
    assert (figures["share_of_matrix_products"], figures["share_of_tokenizer_beside"]) == (0.5, 0.25)
    assert figures["share_of_padding"] == 0.1


def test_vectors_that_differ_are_no_measurement(monkeypatch):
    import encode_speed

    monkeypatch.setattr(encode_speed, "ours", lambda model, texts, *rest: -torch.ones(len(texts), 2))
    monkeypatch.setattr(encode_speed, "stock", lambda model, texts, *rest: torch.ones(len(texts), 2))
    monkeypatch.setattr(encode_speed, "TextEncoder", lambda model: types.SimpleNamespace(budget=lambda number: 64))
    monkeypatch.setattr(encode_speed, "parameters_of_products", lambda model: 1)
    monkeypatch.setattr(encode_speed, "watched", lambda model: contextlib.nullcontext({"tokens": 8}))
    module = types.SimpleNamespace(tokenize_rows=lambda texts: [[1]] * len(texts))
    bench = types.SimpleNamespace(
        model=lambda precision: [module], prompt=lambda kind: "", texts=lambda kind, number: ["a"] * number,
        shape=encode_speed.Shape({}, {"queries": 8}), scale=encode_speed.Scale({}, repeats=1),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"queries: a vector of ours has a cosine of -1\.0000"):
        encode_speed.measure_speed("queries", bench, "float32")
