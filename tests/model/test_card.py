"""The card that every save writes: what the model says of itself, and metadata of the Hub."""

import re

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

import lbr_st
from lbr_st.errors import InputError
from lbr_st.model.card import CITATION, Score, _metadata, read, write

LEARNED = {
    "stage": "learn",
    "model": "Qwen/Qwen2-1.5B",
    "data": ["sft=owner/pairs", "local.jsonl"],
    "max_length": 24,
    "compression_ratio": None,
    "allow_overlap": True,
    "resume": False,
    "processes": 2,
    "data_sha256": "ab" * 32,
    "model_sha256": "cd" * 32,
    "mteb_tasks": ["MedicalQARetrieval"],
    "sets": [
        {
            "name": "things",
            "records": {"train": 1234, "test": 5},
            "regime": "strict",
            "isolated": ["query", "document"],
            "license": None,
        }
    ],
    "training_arguments": {"learning_rate": 0.001, "seed": 0, "bf16": False},
    "scores": {"loss": 2.5},
}
ALIGNED = {
    "stage": "align",
    "model": "stage1",
    "data": "owner/pairs",
    "query_prompt": "ask: ",
    "scores": {"nDCG@10": 0.6341},
}


def card_of(folder):
    return (folder / "README.md").read_text()


def metadata(folder):
    front = re.match(r"---\n(.*?)\n---\n", card_of(folder), re.DOTALL)
    return yaml.safe_load(front[1])


@pytest.fixture
def trained(model, tmp_path):
    model[0].history += [LEARNED, ALIGNED]
    model.prompts["query"] = "ask: "
    lbr_st.save(model, tmp_path / "m")
    return tmp_path / "m"


def test_usage_runs_as_it_is_written(trained, model):
    [usage] = re.findall(r"```python\n(.*?)```", card_of(trained), re.DOTALL)
    assert len(usage.strip().splitlines()) == 6
    names = {}
    exec(usage.replace("'m'", repr(str(trained))).replace("print", "shown = list"), names)  # noqa: S102
    assert np.abs(names["queries"] - model.encode_query(["a question"])).max() < 1e-6


def test_recipe_data_scores_and_limits(trained):
    card = card_of(trained)
    for part in (
        "# m\n",
        "(Qwen2ForCausalLM) that learned its domain through a bottleneck token, and was then aligned with",
        "texts of up to 24 tokens to unit vectors of 32 dimensions: the hidden state of the last of 2 bottleneck tok",
        "Prompts (query 'ask: ') are put in by",
        "\nStage 1:\n\n```\nlbr learn \\\n    --model Qwen/Qwen2-1.5B \\\n    --data sft=owner/pairs local.jsonl \\\n"
        "    --max-length 24 \\\n    --allow-overlap \\\n    --learning-rate 0.001 \\\n    --seed 0\n```\n",
        "\nStage 2:\n\n```\nlbr align \\\n    --model stage1 \\\n    --data owner/pairs \\\n"
        "    --query-prompt 'ask: '\n```\n",
        "\n- Stage 1: owner/pairs, local.jsonl (SHA-256 of the records abababababababab).\n"
        "  - Set things (1,234 in train, 5 in test records), strict; training and held-out records kept apart by "
        "query and document; license not stated.\n- Stage 2: owner/pairs.\n"
        "- Public tests on the same sources: MedicalQARetrieval. Scores on these say less.\n",
        "\n| on | what | score |\n| --- | --- | --- |\n| held-out pairs of training (Stage 2) | nDCG@10 | 0.6341 |\n\n",
        "- Texts are cut after 24 tokens.\n",
    ):
        assert part in card, part
    assert "2.5000" not in card  # of the weights before
    assert card.endswith(CITATION + "\n") and "\n\n\n" not in card


def test_ids_of_the_hub_are_metadata(trained):
    about = metadata(trained)
    assert about["library_name"] == "sentence-transformers" and about["pipeline_tag"] == "sentence-similarity"
    assert about["base_model"] == "Qwen/Qwen2-1.5B" and about["datasets"] == ["owner/pairs"]
    assert "datasets" not in _metadata([ALIGNED | {"data": "lr=1e-4/train"}], "m", [], None, None).to_dict()
    assert "license" not in about and "language" not in about
    assert ModelCard.load(trained / "README.md").data.to_dict().items() >= about.items()


def test_scores_of_mteb_are_metadata(trained):
    scores = [
        Score("NFCorpus", "mteb/nfcorpus", "1" * 40, "test", "ndcg_at_10", 0.25),
        Score("Banking77Classification", "mteb/banking77", "3" * 40, "test", "accuracy", 0.75, "Classification", "de"),
        Score("pairs", None, "2" * 40, "test", "recall_at_10", 0.5),
    ]
    assert write(trained, "owner/name", scores, license="mit", language="en", command="lbr evaluate ...")
    about = metadata(trained)
    assert (about["license"], about["language"]) == ("mit", "en")
    [of_model] = about["model-index"]
    result, other = of_model["results"]
    assert (other["task"]["type"], other["dataset"]["config"]) == ("Classification", "de")
    assert result["task"]["type"] == "Retrieval" and "config" not in result["dataset"]
    assert of_model["name"] == "owner/name" and result["dataset"]["name"] == "NFCorpus"
    assert [metric["value"] for metric in result["metrics"]] == [0.25]
    card = card_of(trained)
    rows = "| NFCorpus, test | ndcg_at_10 | 0.2500 |\n| Banking77Classification (de), test | accuracy | 0.7500 |\n"
    assert f"{rows}| pairs, test | recall_at_10 | 0.5000 |\n" in card
    assert "```\nlbr evaluate ...\n```" in card


def test_a_model_that_was_not_trained(model, tmp_path):
    lbr_st.save(model, tmp_path / "m")
    card = card_of(tmp_path / "m")
    for part in (
        "that was not trained yet",
        "\nIt was not trained.\n",
        "\n## Data\n\nNone.\n",
        "\nNone yet. `lbr eval",
    ):
        assert part in card, part
    assert "base_model" not in metadata(tmp_path / "m") and "datasets" not in metadata(tmp_path / "m")


@pytest.mark.parametrize(
    ("history", "how"),
    [
        ([LEARNED], "learned its domain through a bottleneck token, and was not aligned with queries yet"),
        ([LEARNED | {"arm": "plain"}, ALIGNED], "by plain training without a bottleneck, as a control, and was then"),
        ([ALIGNED], "that was aligned with query-document pairs ("),
    ],
)
def test_one_stage_alone(model, tmp_path, history, how):
    model[0].history += history
    lbr_st.save(model, tmp_path / "m")
    assert how in card_of(tmp_path / "m")


def test_a_card_by_hand_is_left_alone(model, tmp_path):
    lbr_st.save(model, tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("mine")
    lbr_st.save(model, tmp_path / "m")
    assert card_of(tmp_path / "m") == "mine"
    assert not write(tmp_path / "m", "name")
    assert card_of(tmp_path / "m") == "mine"


def test_a_card_that_was_changed_is_left_alone(model, tmp_path):
    lbr_st.save(model, tmp_path / "m")
    whole = card_of(tmp_path / "m")
    lbr_st.save(model, tmp_path / "m")
    assert card_of(tmp_path / "m") == whole and write(tmp_path / "m", "name")
    for changed in (f"{whole}my notes\n", whole.replace("tags:", "license: mit\ntags:")):
        assert changed != whole
        (tmp_path / "m" / "README.md").write_text(changed)
        assert not write(tmp_path / "m", "name") and card_of(tmp_path / "m") == changed


def test_a_model_by_length_says_what_it_needs(tmp_path, backbone):
    model = lbr_st.from_backbone(backbone, compression_ratio=4, max_seq_length=16)
    lbr_st.save(model, tmp_path / "m")
    card = card_of(tmp_path / "m")
    assert "SentenceTransformer('m', trust_remote_code=True)" in card and "Needs `pip install lbr-st`" in card
    assert not read(tmp_path / "m")["is_portable"]


def test_dimensions_that_are_embeddings_of_their_own(model, tmp_path):
    model[0].model.config.matryoshka_dimensions = [16, 8]
    lbr_st.save(model, tmp_path / "m")
    assert "The first dimensions alone are embeddings too: 16, 8 (`truncate_dim`)." in card_of(tmp_path / "m")


def test_what_is_no_model_of_this_package(tmp_path):
    with pytest.raises(InputError, match="holds no model of lbr-st: it has no lbr_config.json"):
        read(tmp_path)


def test_the_name_is_text_and_no_template(model, tmp_path):
    folder = tmp_path / "{{ 7 * 7 }}'s"
    lbr_st.save(model, folder)
    assert "# {{ 7 * 7 }}'s\n" in card_of(folder)
    assert 'SentenceTransformer("{{ 7 * 7 }}\'s")' in card_of(folder)
    SentenceTransformer(str(folder))
