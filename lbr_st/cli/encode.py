"""The command ``lbr encode``."""

from __future__ import annotations

from collections.abc import Sequence

from lbr_st.cli.arguments import Parser, add_batch_tokens, add_on_error, positive_int
from lbr_st.cli.computing import add_computing
from lbr_st.use.encode import ENGINES, PRECISIONS, ROLES, EncodeConfig, encode_corpus
from lbr_st.use.runtimes import AUTO, DTYPES


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr encode``.

    Raises:
        InputError: If the model, the data or the folder cannot be used.
    """
    manifest = encode_corpus(EncodeConfig(**vars(_parser().parse_args(argv))))
    size = sum(file.stat().st_size for file in manifest.files) / 1e6
    folder = str(manifest.folder)
    print(  # noqa: T201
        f"Saved {folder}: {manifest.rows} rows in {manifest.shards} files, {size:.1f} MB\n"
        f"next: read it with whatever reads Parquet, as pyarrow.parquet.read_table({folder!r}) does"
    )


def _parser() -> Parser:
    parser = Parser(
        prog="lbr encode",
        description="Encode a corpus of any size into Parquet files. Started again after it was killed, it goes on.",
    )
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="sentence-transformers directory or Hub id")
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="set of `lbr data prepare`, files of documents, folders of text files, Hub datasets",
    )
    parser.add_argument(
        "--output-dir", required=True, metavar="DIR", help="new or empty folder, or that of the same run, to go on with"
    )
    parser.add_argument(
        "--role",
        choices=ROLES,
        default="document",
        help="documents, or the queries of a file; each has its prompt before it",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="numbers written: int8 is scaled by the first thousand rows, binary packs the signs of eight dimensions",
    )
    parser.add_argument(
        "--ranges-from",
        metavar="VECTORS",
        help="int8 embeddings of this command, by whose ranges these are scaled too; queries need it",
    )
    parser.add_argument("--with-text", action="store_true", help="keep each text beside its embedding")
    add_on_error(parser)
    add_batch_tokens(parser)
    parser.add_argument("--shard-rows", type=positive_int, default=10_000, metavar="N", help="rows of a file")
    add_computing(parser, (*DTYPES, AUTO), "float32")
    engine = parser.add_argument_group("where it runs")
    engine.add_argument("--engine", choices=ENGINES, default="local", help="this process, or a cluster of Ray")
    engine.add_argument(
        "--ray-address", metavar="ADDRESS", help="address of the cluster; one on this machine if absent"
    )
    engine.add_argument("--actors", type=positive_int, default=1, metavar="N", help="processes on the cluster")
    engine.add_argument("--cpus-per-actor", type=float, default=1, metavar="N", help="processors of each")
    engine.add_argument("--gpus-per-actor", type=float, default=0, metavar="N", help="GPUs of each")
    return parser
