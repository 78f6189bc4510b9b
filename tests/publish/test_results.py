"""mteb's result files of a model, by its weights; and its card with the scores in them."""

import json
import re
import shutil

import mteb
import pytest
import yaml

import lbr_st
from lbr_st.errors import InputError
from lbr_st.files import write_json
from lbr_st.model.contract import fingerprint
from lbr_st.publish.results import results_of, scores_of, write_card


def test_results_are_found_by_the_weights(saved, tmp_path, revision):
    """Those of other weights are not, whatever the folder is called."""
    for each in (fingerprint(saved)[:40], revision):
        file = tmp_path / "results" / "local__saved" / each / "NFCorpus.json"
        file.parent.mkdir(parents=True)
        write_json(file, {"task_name": "NFCorpus"})
        write_json(file.with_name("model_meta.json"), {})
    [file] = results_of(tmp_path / "results", saved)
    assert file.parent.name == fingerprint(saved)[:40] and file.name == "NFCorpus.json"


def test_scores_say_where_their_data_are(saved, results):
    scores = {(score.task, score.metric): score for score in scores_of(results_of(results, saved))}
    assert {*scores} == {(task, m) for task in ("pairs", "NFCorpus") for m in ("ndcg_at_10", "recall_at_10")}
    assert scores["NFCorpus", "ndcg_at_10"].dataset == "mteb/nfcorpus"
    assert scores["pairs", "ndcg_at_10"].dataset is None
    [file] = [file for file in results_of(results, saved) if file.stem == "pairs"]
    [expected] = json.loads(file.read_text())["scores"]["test"]
    assert scores["pairs", "recall_at_10"].value == expected["recall_at_10"]


def test_a_task_without_retrieval_has_its_main_score(tmp_path):
    scores = [{"main_score": 0.5, "ndcg_at_10": 0.1, "hf_subset": subset} for subset in ("default", "de")]
    for name in ("Banking77Classification", "AskUbuntuDupQuestions"):
        write_json(tmp_path / "it.json", {"task_name": name, "dataset_revision": "1", "scores": {"test": scores}})
        about = mteb.get_task(name).metadata
        whole, part = scores_of([tmp_path / "it.json"])
        assert (whole.metric, whole.value, whole.type) == (about.main_score, 0.5, about.type)
        assert (whole.on, part.on) == (f"{name}, test", f"{name} (de), test")


def test_card_with_scores(saved, results):
    file = write_card(saved, name="owner/name", results_dir=results, license="mit", language="en")
    assert file == saved / "README.md"
    card = file.read_text()
    about = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])
    [of_model] = about["model-index"]
    assert of_model["name"] == "owner/name" and about["license"] == "mit"
    assert {result["dataset"]["name"] for result in of_model["results"]} == {"NFCorpus"}
    assert "| pairs, test | ndcg_at_10 |" in card and "| NFCorpus, test | recall_at_10 |" in card
    assert "lbr evaluate --model owner/name --data ..." in card
    [file] = [file for file in results_of(results, saved) if file.stem == "pairs"]
    file.unlink()
    assert (
        "lbr evaluate --model owner/name --tasks NFCorpus"
        in write_card(saved, name="owner/name", results_dir=results).read_text()
    )


def test_card_without_scores_is_named_after_the_folder(saved):
    assert "\n# saved\n" in write_card(saved).read_text()


def test_what_was_said_once_is_kept(saved):
    """Of a card that is written again, and of a model that is saved again."""
    write_card(saved, name="owner/name", license="mit", language="en")
    once = (saved / "README.md").read_text()
    assert write_card(saved).read_text() == once
    lbr_st.save(lbr_st.load(str(saved)), saved)
    assert (saved / "README.md").read_text() == once
    assert "license: apache-2.0\n" in write_card(saved, license="apache-2.0").read_text()


def test_refusals(saved, tmp_path):
    with pytest.raises(InputError, match="has no scores of this model with the weights it has now"):
        write_card(saved, results_dir=tmp_path / "none")
    (saved / "README.md").write_text("mine")
    with pytest.raises(InputError, match="is not as lbr-st wrote it; move it away"):
        write_card(saved)
    assert (saved / "README.md").read_text() == "mine"
    with pytest.raises(InputError, match="holds no model of lbr-st"):
        write_card(tmp_path)
    with pytest.raises(InputError, match="none: no such directory"):
        write_card(tmp_path / "none")
    with pytest.raises(InputError, match="--license Apache 2.0: the Hub takes ids, such as apache-2.0 or mit; other"):
        write_card(saved, license="Apache 2.0")
    with pytest.raises(InputError, match="--language english: the Hub takes codes of ISO 639, such as en"):
        write_card(saved, language="english")


@pytest.mark.parametrize(
    "name", ["config.json", "lbr_config.json", "config_sentence_transformers.json", "modules.json"]
)
def test_a_damaged_model_gets_no_card(saved, tmp_path, name):
    """One line that names the file, whatever is in it."""
    shutil.copytree(saved, tmp_path / "copy")
    for content in (b"\xff", b"{", b"[]", b"{}", b"[" * 5000, b"1" * 5000):
        (tmp_path / "copy" / name).write_bytes(content)
        with pytest.raises(InputError) as refused:
            write_card(tmp_path / "copy")
        assert "\n" not in str(refused.value) and name.partition(".")[0] in str(refused.value)


def test_a_card_that_is_no_text_is_somebody_elses(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="README.md is not as lbr-st wrote it; move it away"):
        write_card(tmp_path / "copy")
