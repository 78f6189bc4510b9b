"""Settings of an adaptation that cannot be meant are refused by their flag, and the command says them again."""

import pytest

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.errors import InputError

MADE = {"sources": ["handbook"], "model": "m", "output_dir": "out"}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"sources": []}, "no corpus: name a folder"),
        ({"keep": "start"}, "--keep must be better or end, got start"),
        ({"on_error": "x"}, "--on-error must be stop or skip, got x"),
        ({"skip": ["align"]}, "--skip align: there are learn, filter, write, negatives, merge"),
        ({"max_length": 8}, "--max-length must be at least 16, got 8"),
        ({"keep_general": 1.5}, "--keep-general must be from 0 to 1, got 1.5"),
        ({"learn": {"output_dir": "x"}}, "--learn output_dir: the path decides it"),
        ({"align": {"seed": 3}}, "--align seed: the path decides it"),
        ({"teacher": "a", "reranker": "b"}, "--teacher and --reranker are two teachers"),
        ({"reranker": "b", "skip": ["negatives"]}, "--reranker teaches how hard negatives rank: leave out --skip neg"),
        ({"weak_teacher": True}, "--weak-teacher is for a teacher"),
        ({"skip": ["learn"], "learn": {"max_steps": 1}}, "--learn: --skip learn leaves stage 1 out"),
        ({"generator": "http://localhost"}, "--generator URL and --generator-model NAME belong together"),
        ({"queries": "q.jsonl", "per_passage": 2}, "--queries FILE has the queries; leave out what would write some"),
    ],
)
def test_what_cannot_be_meant(told, message):
    with pytest.raises(InputError, match=f"^{message}"):
        AdaptConfig(**MADE | told)


def test_the_command_says_it_again():
    config = AdaptConfig(**MADE, skip=["merge"], learn={"max_steps": 3}, weak_teacher=True, teacher="t", seed=4)
    assert config.command == (
        "lbr adapt handbook --model m --output-dir out --teacher t --weak-teacher --learn max_steps=3 --skip merge "
        "--seed 4"
    )
    assert AdaptConfig(**MADE).command == "lbr adapt handbook --model m --output-dir out"
    assert AdaptConfig(sources="handbook", model="m", output_dir="a/out").work.as_posix() == "a/out.work"
