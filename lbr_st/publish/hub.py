"""``lbr push``: a saved model to the Hugging Face Hub, verified before and with its card."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from lbr_st.errors import InputError
from lbr_st.model.card import CARD, read, write
from lbr_st.model.verify import verify

logger = logging.getLogger(__name__)

# What is of training, or unfinished: a model is published, the way to it is not.
LEFT_OUT = ["checkpoints/*", "lbr_run.json", ".*", "*.unfinished"]


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``lbr push``.

    Raises:
        InputError: If the model does not pass `lbr_st.model.verify`, or the Hub refuses it or cannot be reached.
    """
    parser = argparse.ArgumentParser(prog="lbr push", description="Put a saved model on the Hugging Face Hub.")
    parser.add_argument("--model", required=True, metavar="DIR", help="directory of the model")
    parser.add_argument("--repo-id", required=True, metavar="OWNER/NAME", help="on the Hub; made if it is not there")
    parser.add_argument("--public", action="store_true", help="everyone may see it (default: a new one is private)")
    args = parser.parse_args(argv)
    read(args.model)  # that it is ours at all
    for line in verify(args.model):
        logger.info(line)
    card = Path(args.model, CARD)
    if not card.is_file():
        write(args.model, args.repo_id)
    elif args.repo_id not in card.read_text(encoding="utf-8"):
        logger.info("the card does not name %s; lbr card --name does that", args.repo_id)
    api = HfApi()
    try:
        url = api.create_repo(args.repo_id, private=not args.public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=args.repo_id, folder_path=args.model, ignore_patterns=LEFT_OUT, commit_message="Model of lbr-st"
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise InputError(f"--repo-id {args.repo_id}: {str(error).strip().splitlines()[0]}") from error
    logger.info("%s is there, revision %s", url, commit.oid)
