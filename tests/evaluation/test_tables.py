from lbr_st.evaluation.tables import markdown_table, score_table


def test_a_table_can_be_read_as_it_is():
    rows = [("one", "0.5"), ("the second", "12.25")]
    assert markdown_table(["model", "nDCG"], rows, numbers=["nDCG"]) == (
        "| model      |  nDCG |\n| ---------- | ----: |\n| one        |   0.5 |\n| the second | 12.25 |"
    )
    assert markdown_table(["a"], []) == "| a   |\n| --- |"


def test_scores_of_models():
    scores = {"bm25": {"recall_at_10": 0.5, "ndcg_at_10": 0.25, "map_at_10": 0.1}}
    assert score_table(scores).splitlines() == [
        "| model | recall@10 | nDCG@10 |",
        "| ----- | --------: | ------: |",
        "| bm25  |     0.500 |   0.250 |",
    ]
