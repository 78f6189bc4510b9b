"""The benchmark beside llama.cpp: its figures and its texts; tests/integrations runs it with llama.cpp."""

from types import SimpleNamespace

import pytest

from lbr_st.errors import InputError


@pytest.mark.parametrize(("cosine", "expected"), [(0.9995, [4.0, 4.0, 9.0]), (0.9985, [2.0, 2.0, 1.5])])
def test_figures_of_known_seconds(cosine, expected):
    """In bf16 where it is the faster one and near enough; a ratio is of one repeat."""
    from llamacpp_speed import figures_of

    found = {
        "seconds": {"ours_float32": [2.0, 4.0, 6.0], "ours_bfloat16": [1.0, 2.0, 1.0], "llamacpp": [4.0, 8.0, 9.0]},
        "least_cosines": {"ours_float32": 1.0, "ours_bfloat16": cosine, "llamacpp": 0.9999},
        "tokens": [80, 80, 90],
    }
    figures = figures_of(found)
    names = [f"throughput_vs_llamacpp_passages{end}" for end in ("", "_min", "_max")]
    assert [figures[name] for name in names] == [sorted(expected)[1], min(expected), max(expected)]
    assert figures["is_in_bf16"] == int(cosine > 0.999)
    assert [figures[f"tokens_per_second_{arm}"] for arm in found["seconds"]] == [20, 80, 10]


def test_texts_of_a_repeat_are_its_own():
    from encode_speed import text_lengths
    from llamacpp_speed import PASSAGES, texts_of

    bench = SimpleNamespace(seed=0, words=[f"w{n}" for n in range(1000)])
    one, other = texts_of(bench, 0), texts_of(bench, 1)
    assert [len(text.split()) + 1 for text in one] == [len(text.split()) + 1 for text in other]
    assert [len(text.split()) + 1 for text in one] == text_lengths("passages", PASSAGES, 0)
    assert not {*one} & {*other} and texts_of(bench, 0) == one


@pytest.mark.parametrize("folder", [".", "none"])
def test_without_llamacpp(tmp_path, folder):
    from llamacpp_speed import LlamaCpp

    with pytest.raises(InputError, match=r"--llamacpp .*: llama\.cpp does not start \("):
        LlamaCpp(tmp_path / folder, tmp_path / "model.gguf", 1)
