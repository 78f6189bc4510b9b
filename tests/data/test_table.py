"""What is known of records while a set is prepared."""

from lbr_st.data.table import _measures


def test_the_order_of_records():
    """Hard negatives say little of it and their order nothing; a record without any is where it always was."""

    def order(query, document, negatives):
        batch = {"query": [query], "document": [document], "negatives": [negatives]}
        return _measures(len, "auto", batch)["order"][0]

    alone = order("q", "d", [])
    assert order("q", "d", ["a", "b", "c"]) == order("q", "d", ["c", "a", "b"]) != order("q", "d", ["a", "b"])
    assert order("q", "d", ["a"]) >> 16 == alone >> 16 != order("q", "e", ["a"]) >> 16
    # blake2b of 8 bytes, its last bit dropped, as other sets were parted by.
    assert alone == 3933208665529234651
