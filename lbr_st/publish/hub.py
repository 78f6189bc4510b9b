"""A saved model on the Hugging Face Hub: verified before, and with its card."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from lbr_st.errors import NO_NETWORK, InputError, UnfinishedError, foreseen, one_line
from lbr_st.model.card import CARD, write
from lbr_st.model.contract import BESIDE_THE_TOKENIZER
from lbr_st.model.quiet import quietly
from lbr_st.model.verify import verify
from lbr_st.publish.results import require_whole

logger = logging.getLogger(__name__)

# Files of training, and unfinished ones: a model is published, the way to it is not. The page of an adaptation has
# passages of the corpus and queries of the test.
LEFT_OUT = [
    "checkpoints/*", "lbr_run.json", "training_log.json", "verdict.json", "report.html", ".*", "*.unfinished",
]  # fmt: skip


# What a model that was there before may have and this one not, and readers would take for a part of it.
READ_WITH_IT = [
    "model*.safetensors*", "pytorch_model*", "adapter_*", "training_args.bin", "config*.json", "modules.json",
    "lbr_*.json", "sentence_bert_config.json", "generation_config.json", "chat_template.jinja", "tokenizer*",
    *sorted(BESIDE_THE_TOKENIZER), "[0-9]_*/*",
]  # fmt: skip


class Pushed(NamedTuple):
    """What is on the Hub now.

    Attributes:
        url: Address of the repository.
        revision: Commit that holds the model, 40 digits.
    """

    url: str
    revision: str


def push(model: str | Path, repo_id: str, *, public: bool = False) -> Pushed:
    """Put a saved model on the Hub.

    Args:
        model: Directory of the model.
        repo_id: Repository, ``owner/name``; made if it is not there.
        public: Let everyone see the repository; default is that it is private, and has to be.

    Raises:
        InputError: If the repository is public and nobody says that it may be, the model does not pass
            `lbr_st.model.verify`, or the Hub refuses it.
        UnfinishedError: If the Hub cannot be reached.
    """
    _check_id(repo_id)
    require_whole(model)
    with quietly():
        for line in verify(model):
            logger.debug(line)
    card = Path(model, CARD)
    if not card.is_file():
        write(model, repo_id)
    api = HfApi()
    try:
        pushed = _send(api, str(model), repo_id, public)
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise InputError(f"--repo-id {repo_id}: {one_line(error)}") from error
    except Exception as error:
        if not isinstance(error, OfflineModeIsEnabled) and NO_NETWORK not in (foreseen(error) or ""):
            raise
        raise UnfinishedError(
            f"the Hub is not reached ({one_line(error)}): is there a network, and is HF_HUB_OFFLINE unset? "
            "The same command goes on then"
        ) from error
    if repo_id not in card.read_text(encoding="utf-8", errors="replace"):
        logger.info("the card does not name %s; lbr publish card --name does that", repo_id)
    return pushed


def _check_id(repo_id: str) -> None:
    """Refuse what is no id of a repository, without asking the network.

    Raises:
        InputError: If it is none, or names no owner.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise InputError(f"--repo-id {repo_id}: {one_line(error)}") from error
    if "/" not in repo_id:
        raise InputError(f"--repo-id {repo_id}: name its owner too, owner/{repo_id}")


def _send(api: HfApi, model: str, repo_id: str, public: bool) -> Pushed:
    url = api.create_repo(repo_id, private=not public, exist_ok=True)
    is_private = api.repo_info(repo_id).private  # of one that was there, create_repo changes nothing
    if not public and not is_private:
        raise InputError(f"--repo-id {repo_id}: this repository is public; --public says that all may see the model")
    commit = api.upload_folder(
        repo_id=repo_id,
        folder_path=model,
        ignore_patterns=LEFT_OUT,
        delete_patterns=READ_WITH_IT,
        commit_message="Model of lbr-st",
    )
    if public and is_private:
        api.update_repo_settings(repo_id, private=False)
    return Pushed(str(url), commit.oid)
