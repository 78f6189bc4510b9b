"""The command ``lbr serve``."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence

from lbr_st.cli.arguments import Parser, add_on_error, positive_int
from lbr_st.cli.computing import add_computing
from lbr_st.errors import InputError
from lbr_st.serving.config import ServeConfig
from lbr_st.serving.connections import Server
from lbr_st.serving.run import serve

KEY = "LBR_API_KEY"


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr serve``.

    Raises:
        InputError: If the address is taken, or the model, the data or the key cannot be used.
    """
    parser = Parser(prog="lbr serve", description="Serve embeddings as OpenAI does, and search over your documents.")
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="sentence-transformers directory or Hub id")
    parser.add_argument(
        "--data",
        metavar="FILE_OR_FOLDER",
        help="what is searched: set of `lbr data prepare`, file of documents, folder of text, output of `lbr encode`",
    )
    add_on_error(parser)
    parser.add_argument(
        "--compare", metavar="DIR_OR_ID", help="another model, whose hits are shown beside; --data is text then"
    )
    parser.add_argument("--name", metavar="NAME", help="what clients call the model; its directory's name if absent")
    where = parser.add_argument_group("where, and for whom")
    where.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen at")
    where.add_argument("--port", type=int, default=8000, metavar="N", help="port to listen at; 0 for any that is free")
    where.add_argument("--api-key", metavar="KEY", help=f"key that clients must have; or in the environment, {KEY}")
    where.add_argument("--no-auth", action="store_true", help="let other machines ask without a key")
    most = parser.add_argument_group("at most")
    most.add_argument(
        "--batch-tokens",
        type=positive_int,
        metavar="N",
        help="tokens encoded at once: 16,384 on a GPU, else 1,024, if absent",
    )
    most.add_argument("--max-body-mib", type=positive_int, default=8, metavar="N", help="size of a request")
    most.add_argument("--max-texts", type=positive_int, default=2048, metavar="N", help="texts of a request")
    most.add_argument("--max-tokens", type=positive_int, default=300_000, metavar="N", help="tokens of a request")
    most.add_argument("--max-queue", type=positive_int, default=256, metavar="N", help="requests that wait")
    add_computing(parser)
    args = vars(parser.parse_args(argv))
    if args["api_key"] is None and not args["no_auth"]:
        args["api_key"] = os.environ.get(KEY) or None
        if args["api_key"] is not None and not args["api_key"].strip():
            raise InputError(f"{KEY} in the environment is white space alone: set it anew, or unset it")
    config = ServeConfig(**args)

    def say(server: Server, url: str) -> None:
        passages = f", searching {len(server.service.index):,} passages" if server.service.index is not None else ""
        said = f"Serving {config.served_name} on {url}{passages}. Ctrl-C stops it.\nnext: {_example(config, url)}"
        print(said, flush=True)  # noqa: T201

    serve(config, say)


def _example(config: ServeConfig, url: str) -> str:
    key = ["-H", "Authorization: Bearer KEY"] if config.api_key is not None else []
    if config.data is not None:
        return f"open {url}, or {shlex.join(['curl', *key, f'{url}/search?q=your+question&k=3'])}"
    body = json.dumps({"model": config.served_name, "input": "your text"}, ensure_ascii=False)
    return shlex.join(["curl", *key, f"{url}/v1/embeddings", "-d", body])
