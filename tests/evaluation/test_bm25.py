"""BM25 by script: which tokenizer texts get, and that it finds what chance does not."""

import random

import bm25s
import mteb
import pytest
import Stemmer
from helpers import TEXTS
from mteb.models.model_implementations.bm25 import _ISO3_TO_LANG, BM25Search

import lbr_st
from lbr_st.errors import InputError
from lbr_st.evaluation.bm25 import MTEBS, BM25Ranker, tokens_of, words_and_bigrams
from lbr_st.evaluation.fusion import AllScores
from lbr_st.evaluation.own_data import LocalRetrieval, evaluate, open_for_evaluation

ENGLISH = "The boiling point of water is one hundred degrees. "
WORDS = {
    "Chinese": "水 在 一 百 度 沸 腾 山 气 压 低 饭 需 要 时 间 铁 血 红 蛋 白 盐 糖 光 电 磁 波 速 力 热 冷 石 油 金",
    "Japanese": "水 は 百 度 で 沸 騰 し ま す 気 圧 が 低 い 山 の 上 鉄 血 塩 糖 光 電 波 カ テ ラ メ ロ ン ネ",
    "Korean": "물 은 백 도 에 서 끓 는 다 산 위 기 압 이 낮 아 철 혈 소 금 빛 전 자 파 열 돌 름 동",
    "Thai": "น้ำ เดือด ที่ ร้อย องศา ภูเขา สูง ความ กด อากาศ ต่ำ เหล็ก เลือด เกลือ แสง ไฟ คลื่น ร้อน หิน ทอง",
    "Lao": "ນ້ຳ ຟົດ ທີ່ ຮ້ອຍ ອົງສາ ພູ ສູງ ອາກາດ ຕ່ຳ ເຫຼັກ ເລືອດ ເກືອ ແສງ ໄຟ ຄື້ນ ຮ້ອນ ຫີນ ຄຳ",
    "Khmer": "ទឹក ពុះ មួយ រយ អង្សា ភ្នំ ខ្ពស់ ខ្យល់ ទាប ដែក ឈាម អំបិល ពន្លឺ ភ្លើង រលក ក្តៅ ថ្ម មាស",
    "Burmese": "ရေ ဆူ ပွက် တစ် ရာ တောင် မြင့် လေ နိမ့် သံ သွေး ဆား အလင်း မီး လှိုင်း ပူ ကျောက် ရွှေ",
}
HINDI = "पानी नमक लोहा खून हवा आग पत्थर सोना चाँदी ताँबा बिजली रोशनी गर्मी सर्दी नदी पेड़ किताब घर"


@pytest.mark.parametrize(
    ("texts", "name", "languages"),
    [
        ([ENGLISH], "English", ["eng-Latn"]),
        (["c1ccccc1", "1 + 1", ""], "English", ["eng-Latn"]),
        ([], "English", ["eng-Latn"]),
        ([ENGLISH * 5, "水"], "English", ["eng-Latn"]),  # a quotation
        (["水在一百度沸腾但是在高山上更低。", "PCR"], "Chinese, characters", ["zho-Hans"]),
        (["水は百度で沸騰します。"], "Japanese, characters", ["jpn-Jpan"]),
        (["물은 백 도에서 끓는다"], "Korean, characters", ["kor-Hang"]),
        (["น้ำเดือดที่หนึ่งร้อยองศา"], "Thai, characters", ["tha-Thai"]),
        (["ນ້ຳຟົດ"], "Lao, characters", ["lao-Laoo"]),
        (["ទឹកពុះ"], "Khmer, characters", ["khm-Khmr"]),
        (["ရေဆူပွက်"], "Burmese, characters", ["mya-Mymr"]),
        (["ཆུ་ཁོལ་བ"], "Tibetan, characters", ["bod-Tibt"]),
        ([ENGLISH, "水在一百度沸腾但是在高山上更低"], "words and character bigrams", ["zho-Hans", "eng-Latn"]),
        (["Вода кипит при ста градусах"], "Russian", ["rus-Cyrl"]),
        (["Вода кипить при ста градусах, її й треба"], "words", ["und-Cyrl"]),  # Ukrainian
        (["Το νερό βράζει"], "Greek", ["ell-Grek"]),
        (["يغلي الماء عند مئة درجة"], "Arabic", ["ara-Arab"]),
        (["آب در صد درجه می‌جوشد چگونه"], "words", ["und-Arab"]),  # Persian
        ([HINDI], "words", ["hin-Deva"]),
        (["המים רותחים"], "words", ["heb-Hebr"]),
        (["ᏣᎳᎩ"], "words", ["und-Zyyy"]),
    ],
)
def test_the_script_decides(texts, name, languages):
    assert tokens_of(texts) == (name, languages)


def test_what_mteb_has_a_tokenizer_for():
    """By its own table: characters, or words with their stems."""
    of_mteb = {code: _ISO3_TO_LANG[code.partition("-")[0]] for code in MTEBS}
    cut = {"zho-Hans", "jpn-Jpan", "kor-Hang", "tha-Thai", "lao-Laoo", "khm-Khmr", "mya-Mymr", "bod-Tibt"}
    assert {code for code, (*_, tokenizer) in of_mteb.items() if tokenizer == "char"} == cut
    stemmed = {code for code, (_, stems, tokenizer) in of_mteb.items() if stems and tokenizer is None}
    assert stemmed == {"eng-Latn", "rus-Cyrl", "ell-Grek", "hye-Armn", "ara-Arab"} == MTEBS - cut


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("水的沸点 H2O, 100度!", ["水的", "的沸", "沸点", "h2o", "100", "度"]),
        ("Naïve Cafés", ["naïve", "cafés"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("ก้า ก้", ["ก้า", "ก้"]),
        ("ｶﾀｶﾅ", ["カタ", "タカ", "カナ"]),
        ("?!", []),
    ],
)
def test_words_and_bigrams_by_hand(text, found):
    assert words_and_bigrams(text) == found


def pairs(words, between="", count=60):
    """Sentences of words at random, each asked for by the half of its words that begins somewhere in it."""
    rng = random.Random(0)
    records = []
    for number in range(count):
        sentence, at = rng.choices(words.split(), k=16), rng.randrange(8)
        query = between.join(sentence[at : at + 8])
        records.append({"id": str(number), "query": query, "document": between.join(sentence)})
    return records


@pytest.mark.parametrize("language", WORDS)
def test_text_without_spaces_is_found(language):
    task = LocalRetrieval(pairs(WORDS[language]), name="f", revision="1")
    assert task.label("BM25") == f"BM25 ({language}, characters)" and task.label("a model") == "a model"
    assert lbr_st.evaluate("bm25", task)["recall_at_10"] > 0.9


@pytest.mark.parametrize("language", ["Chinese", "Japanese", "Korean"])
def test_with_english_settings_it_is_chance(language):
    """A document is one word then: 10 of 60 are found. The tasks above can be failed."""
    task = LocalRetrieval(pairs(WORDS[language]), name="f", revision="1")
    task.metadata = task.metadata.model_copy(update={"eval_langs": ["eng-Latn"]})
    assert lbr_st.evaluate("bm25", task)["recall_at_10"] < 0.3


def test_what_mteb_has_nothing_for_is_found():
    """Words with vowel signs; and a corpus in two languages."""
    english = [{"id": f"e{n}", "query": f"what is w{n}x", "document": f"about w{n}x and others"} for n in range(40)]
    for records in (pairs(HINDI, " "), pairs(WORDS["Chinese"]) + english):
        task = LocalRetrieval(records, name="f", revision="1")
        assert task.tokens.name.startswith("words")
        assert lbr_st.evaluate("bm25", task)["recall_at_10"] > 0.9


def test_english_is_what_mteb_scores():
    """To the last digit: by mteb's own model, and by bm25s with the settings that mteb says."""
    records = [{"id": f"p{n}", "query": f"{q} and {n}", "document": f"{d}, the {n}"}
               for n, (q, d) in enumerate(zip(TEXTS[::2], TEXTS[1::2], strict=True))]  # fmt: skip
    task = LocalRetrieval(
        records, [{"id": f"x{n}", "document": text} for n, text in enumerate(TEXTS)], name="f", revision="1"
    )
    assert task.metadata.eval_langs == ["eng-Latn"] and task.label("bm25") == "bm25 (English)"
    ours, theirs = open_for_evaluation("bm25"), mteb.get_model("mteb/baseline-bm25s")
    assert ours.mteb_model_meta == theirs.mteb_model_meta
    found = [mteb.evaluate(model, task, cache=None).task_results[0].scores["test"][0] for model in (ours, theirs)]
    for metric in ("ndcg_at_10", "recall_at_10", "mrr_at_10"):
        assert 0 < found[0][metric] <= found[1][metric]  # which counts what has no word of a query

    stemmer, quiet = Stemmer.Stemmer("english"), {"show_progress": False}
    index = bm25s.BM25(k1=1.5, b=0.75, delta=0.5, method="lucene")
    index.index(bm25s.tokenize([f"\n{text}" for text in task.documents], stemmer=stemmer, **quiet), **quiet)
    queries = bm25s.tokenize(list(task.queries), stemmer=stemmer, **quiet)
    ranked, scores = index.retrieve(queries, k=len(task.documents), **quiet)
    task.load_data()
    ids = list(task.documents.values())
    data = task.dataset["default"]["test"]
    settings = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}}
    ours.index(data["corpus"], **settings)
    of_queries = ours.search(data["queries"], top_k=len(task.documents), **settings)
    for of_query, documents, values in zip(of_queries.values(), ranked, scores, strict=True):
        every = {ids[number]: float(value) for number, value in zip(documents, values, strict=True)}
        assert of_query == {id_: value for id_, value in every.items() if value > 0} and len(of_query) < len(every)


@pytest.mark.parametrize("remembers", [False, True])
def test_a_document_without_a_word_of_the_query_is_not_found(remembers):
    """Whatever its id: trec_eval puts documents of equal scores in the order of their ids, the last first."""
    records = [{"id": "1", "query": "asthma", "document": "Asthma is treated."},
               {"id": "2", "query": "unheard", "document": "Salt raises blood pressure."}]  # fmt: skip
    records = [record | {"document_id": f"z{record['id']}"} for record in records]
    more = [{"id": f"a{n}", "document": f"page {n}"} for n in range(20)]
    task, bm25 = LocalRetrieval(records, more, name="f", revision="1"), open_for_evaluation("bm25")
    scores = evaluate(AllScores(bm25) if remembers else bm25, task)
    assert scores["recall_at_10"] == scores["recall_at_100"] == scores["ndcg_at_10"] == 0.5


def test_public_tasks_are_mtebs_own(monkeypatch):
    """Whatever language they are in: their figures are compared with those of others."""
    indexed = []
    monkeypatch.setattr(BM25Search, "index", lambda self, corpus, **settings: indexed.append(self))
    model = open_for_evaluation("bm25")
    own = LocalRetrieval([{"id": "1", "query": "नमक", "document": "पानी"}], name="f", revision="1").metadata
    model.index([], task_metadata=own.model_copy(update={"dataset": {"path": "owner/name", "revision": "1"}}))
    model.index([], task_metadata=own)
    assert [each._tokenizer_cfg for each in indexed] == [None, words_and_bigrams]


@pytest.mark.parametrize("texts", [["this and that", "these"], ["\U0001f600", "\U0001f601"]])
def test_texts_without_a_word_are_refused(texts):
    pairs = [{"id": str(n), "query": "q", "document": text} for n, text in enumerate(texts)]
    task = LocalRetrieval(pairs, name="f", revision="1")
    for rank in (lambda: BM25Ranker(texts), lambda: evaluate(open_for_evaluation("bm25"), task)):
        with pytest.raises(InputError, match="BM25 finds not one word in 2 texts"):
            rank()


def test_building_an_index_is_no_news(caplog):
    """A server builds one whenever a file changes; bm25s asks for DEBUG itself."""
    BM25Ranker(TEXTS)
    assert not [record for record in caplog.records if record.name == "bm25s"]
