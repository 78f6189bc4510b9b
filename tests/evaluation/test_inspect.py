"""The numbers of a model on held-out pairs, against the metrics of what it encodes."""

import pytest
from helpers import PAIRS, make_bert
from sentence_transformers import SentenceTransformer

from lbr_st import metrics
from lbr_st.errors import InputError
from lbr_st.evaluation.inspect import CONFIDENCE, MEANINGS, format_numbers, inspect
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.learning.masked_model import CutOffModel
from lbr_st.learning.measures import held_out_loss, nats_through_bottleneck

RECORDS = [
    {"id": str(n), **pair} for n, pair in enumerate([*PAIRS, {"query": "one more", "document": PAIRS[0]["document"]}])
]


def test_numbers_of_a_model_of_this_package(model):
    model.prompts |= {"query": "q: ", "document": "d: "}
    numbers = inspect(model, RECORDS, batch_size=2)
    assert set(numbers) == {*MEANINGS, "low", "high"}
    pairs = metrics.Pairs.of(RECORDS)
    assert (len(pairs.queries), len(pairs.documents)) == (4, 3)
    queries = model.encode_query(pairs.queries, convert_to_tensor=True)
    documents = model.encode_document(pairs.documents, convert_to_tensor=True)
    low, high = metrics.separation_interval(queries, documents, pairs.relevant, confidence=CONFIDENCE)
    language_model, examples = CutOffModel(model[0].model), build_examples(RECORDS, ExampleMaker(model, "sft"))
    expected = {
        "Separation Ratio": metrics.separation_ratio(queries, documents, pairs.relevant),
        "low": low,
        "high": high,
        "recall@10": 1.0,
        "alignment": metrics.alignment(queries, documents, pairs.relevant),
        "uniformity": metrics.uniformity(documents),
        "anisotropy": metrics.anisotropy(documents),
        "variance": metrics.variance(documents),
        "loss": held_out_loss(language_model, examples),
        "nats": nats_through_bottleneck(language_model, examples),
    }
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_any_other_model(tmp_path):
    """The numbers of its embeddings, and none of a language model."""
    model = SentenceTransformer(make_bert(tmp_path / "bert"))
    assert set(inspect(model, RECORDS)) == {*MEANINGS, "low", "high"} - {"loss", "nats"}


def test_one_document_has_nothing_to_separate(model):
    with pytest.raises(InputError, match="at least two different documents"):
        inspect(model, RECORDS[:1])


def test_a_line_for_each_number():
    numbers = {"Separation Ratio": 1.23456, "low": 1.0, "high": 1.5, "loss": 2.0}
    assert format_numbers(numbers).splitlines() == [
        f"Separation Ratio    1.2346   {MEANINGS['Separation Ratio']}",
        "                    1.0000 to 1.5000   95% of bootstrap samples of the queries",
        f"loss                2.0000   {MEANINGS['loss']}",
    ]
