"""What is encoded together, in which turn, and that it changes no vector."""

import threading

import numpy as np
import pytest
from helpers import TEXTS

from lbr_st.serving.batching import Batcher
from lbr_st.serving.metrics import BATCHES, Metrics


def take(batcher):
    """Take the next batch, of a thread that was not started."""
    return [job.texts[at] for job, at in batcher._take()]


def submit(batcher, texts, role="document"):
    return batcher.submit(texts, role, batcher.lengths(texts, role))


def test_no_vector_depends_on_its_company(opened):
    """Requests of many clients at once, of both roles, short, long, empty and cut."""
    texts = [*TEXTS, "", "word " * 40, "short"]
    metrics, found = Metrics(), {}
    with Batcher(opened, 64, metrics) as batcher:

        def ask(role, some):
            found[role, tuple(some)] = submit(batcher, some, role).result(60)

        requests = [(role, texts[start : start + size]) for role in ("query", "document")
                    for size in (1, 2, 5) for start in range(0, len(texts), size)]  # fmt: skip
        threads = [threading.Thread(target=ask, args=request) for request in requests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(found) == len({(role, tuple(some)) for role, some in requests})
    for (role, some), vectors in found.items():
        encode = opened.encode_query if role == "query" else opened.encode_document
        expected = np.stack([encode(text) for text in some])  # each alone
        assert vectors.dtype == np.float32 and np.abs(vectors - expected).max() < 1e-6
    sent = sum(len(some) for _, some in requests)
    assert f'lbr_texts_total{{role="query"}} {sent // 2}\n' in str(metrics)
    batches = int(next(line for line in str(metrics).splitlines() if line.startswith(f"{BATCHES} ")).split()[1])
    assert batches < sent


def test_each_request_has_its_turn(opened):
    """A large one does not keep the small ones, whichever role they have."""
    batcher = Batcher(opened, 40)
    submit(batcher, [f"large {number}" for number in range(50)])
    submit(batcher, ["small"])
    submit(batcher, ["a question"], "query")
    all_of_it = batcher.waiting_tokens
    assert {*take(batcher)} >= {"small"}
    assert take(batcher) == ["a question"]
    assert len(take(batcher)) > 1 and 0 < batcher.waiting_tokens < all_of_it and batcher.seconds_to_wait() >= 1
    while take(batcher):
        pass
    assert batcher.waiting_tokens == 0


def test_what_nobody_waits_for_is_not_encoded(opened):
    batcher = Batcher(opened, 1000)
    gone, stays = submit(batcher, ["gone"]), submit(batcher, ["stays"])
    assert gone.cancel()
    assert take(batcher) == ["stays"] and not stays.done()


def test_a_text_that_the_model_does_not_take_fails_alone(opened, monkeypatch, caplog):
    preprocess = opened.preprocess

    def fail(texts, **options):
        if "poison" in texts:
            raise RuntimeError("no such token")
        return preprocess(texts, **options)

    monkeypatch.setattr(opened, "preprocess", fail)
    batcher = Batcher(opened, 1000)
    futures = [submit(batcher, texts) for texts in (["good"], ["poison", "beside it"], ["fine"])]
    with batcher:
        good, fine = futures[0].result(60), futures[2].result(60)
        with pytest.raises(RuntimeError, match="no such token"):
            futures[1].result(60)
        again = submit(batcher, ["good"]).result(60)
    assert np.abs(np.concatenate([good, fine, again]) - opened.encode_document(["good", "fine", "good"])).max() < 1e-6
    assert "2 texts could not be encoded" in caplog.text


def test_the_end(opened):
    """All that was taken is encoded; after an error nothing is, and nobody waits for ever."""
    with Batcher(opened, 16) as batcher:
        futures = [submit(batcher, [text]) for text in TEXTS]
    assert all(future.done() and future.result().shape == (1, opened.get_embedding_dimension()) for future in futures)
    with pytest.raises(RuntimeError, match="not run any more"):
        submit(batcher, ["late"])
    batcher = Batcher(opened, 16)
    future = submit(batcher, TEXTS * 50)
    with pytest.raises(KeyboardInterrupt), batcher:
        raise KeyboardInterrupt
    assert future.cancelled()
