"""What the three examples share: their arguments, an index that is made once, and what they print."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from lbr_st.data.records import read_passages
from lbr_st.errors import InputError
from lbr_st.model.contract import fingerprint
from lbr_st.model.opening import open_sentence_transformer
from lbr_st.records import Record
from lbr_st.use.passages import chunker_of
from lbr_st.use.search import format_hits

TOP_K = 3
CANDIDATES = 20  # of the model and of BM25, where they are fused

# From a question to (cosine, passage) pairs, best first; where BM25 searches too it is a score of both.
Retrieve = Callable[[str], list[tuple[float, Record]]]


def answer(
    argv: Sequence[str] | None,
    framework: str,
    stores: Iterable[str],
    open_index: Callable[..., Retrieve],
) -> None:
    """Index a folder and answer questions with its passages.

    Args:
        argv: Of the command line.
        framework: Its name.
        stores: That it can use; the first is the default.
        open_index: From the directory of the model, the name of the store, its folder and the passages to put into it,
            None if they are there already, to what retrieves; with ``bm25``, the passages that BM25 searches beside it.

    Raises:
        InputError: If the model, the folder or the index cannot be used, or a package is missing.
    """
    stores = list(stores)
    parser = argparse.ArgumentParser(description=f"Search a folder of text with {framework}.")
    parser.add_argument("--model", required=True, metavar="DIR", help="sentence-transformers directory")
    parser.add_argument("--folder", required=True, metavar="DIR", help="text, Markdown, HTML and source files")
    parser.add_argument("--store", choices=stores, default=stores[0], help="(default: %(default)s)")
    parser.add_argument("--index", required=True, type=Path, metavar="DIR", help="where the store is kept")
    parser.add_argument("--fuse", choices=["bm25"], help="let BM25 search too, and fuse both by their ranks")
    parser.add_argument("question", nargs="+")
    args = parser.parse_args(argv)

    if not (Path(args.model) / "modules.json").is_file():
        raise InputError(f"--model {args.model} is not a sentence-transformers directory: it has no modules.json")
    if not Path(args.folder).is_dir():
        raise InputError(f"--folder {args.folder}: no such directory")
    # Where text is cut into passages that the model reads to their end; put your own way of cutting here.
    passages = read_passages(args.folder, partial(chunker_of, open_sentence_transformer(args.model)))
    digest = hashlib.sha256(json.dumps(passages).encode()).hexdigest()
    of = [f"{framework} {args.store}", fingerprint(args.model), digest]
    built = args.index / "built.json"  # written last: an index without it is not whole
    build = not args.index.exists()
    if not build and not (built.is_file() and json.loads(built.read_text()) == of):
        raise InputError(f"--index {args.index} is unfinished, or of another folder, model or store: delete it")
    try:
        lexical = {"bm25": passages} if args.fuse else {}
        retrieve = open_index(args.model, args.store, args.index / "store", passages if build else None, **lexical)
    except ModuleNotFoundError as error:
        script = f"examples/rag_{framework.lower()}.py"
        raise InputError(f"{error.name} is not installed: see the first lines of {script}") from error
    if build:
        built.write_text(json.dumps(of))
    for question in args.question:
        print(format_hits(question, retrieve(question)))  # noqa: T201
