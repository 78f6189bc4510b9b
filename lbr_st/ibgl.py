"""Stage 1, information bottleneck-constrained generative learning (arXiv 2601.11124, section 3.2).

The language model reads ``[BOS? X Z Y EOS]``, with Y cut off from X, and learns to predict Y. All that Y needs of X
must pass through the bottleneck tokens Z, whose last hidden state is the embedding of X.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments

from lbr_st.errors import InputError
from lbr_st.files import sha256
from lbr_st.masks import BOTTLENECK, PREFIX, SOURCE, TARGET, check_no_leak, cutoff_mask
from lbr_st.modes import evaluating
from lbr_st.modules import BottleneckTransformer, bottleneck_module, most_positions
from lbr_st.records import Record, read_records
from lbr_st.training import (
    add_stage_arguments,
    claim_output_dir,
    describe_run,
    evaluate_while_training,
    finish,
    is_finished,
    make_parser,
    open_model,
    parse_arguments,
    set_prompts,
    train_to_the_end,
)

OBJECTIVES = {
    "sft": "X = query, Y = document",
    "reconstruct": "X = Y = document",
    "prefix-suffix": "X = first half of the document, Y = second half",
}
IGNORE = -100  # label of positions without loss, as everywhere in transformers


def build_examples(records: Sequence[Record], model: SentenceTransformer, objective: str) -> Dataset:
    """Tokenize records into ``[BOS? X Z Y EOS]``.

    X is tokenized exactly as at encoding time: with its prompt, and cut to the model's ``max_seq_length`` before the
    bottleneck tokens. Y is cut to as many tokens; EOS ends a Y that reaches the end of its document.

    Args:
        records: With ``document``, and for ``sft`` with ``query``.
        model: Its first module's tokenizer and lengths are used, and its prompts.
        objective: One of `OBJECTIVES`.

    Returns:
        Columns ``input_ids``, ``segments`` (see `lbr_st.masks`) and ``labels`` (`IGNORE` outside of Y), each a list
        of ``seq`` integers.
    """
    module = bottleneck_module(model)
    tokenizer, length = module.tokenizer, module.max_seq_length
    prefix, bottleneck = module.num_prefix_tokens, set(module.bottleneck_token_ids)
    before_source = SOURCE if module.hide_bos else PREFIX
    prompt = model.prompts["query" if objective == "sft" else "document"] or ""
    prompt_length = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    room = length - prefix - module.num_bottleneck_tokens - prompt_length
    eos = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        documents = batch["document"]
        if objective == "prefix-suffix":
            sources, targets, is_cut = _split_in_the_middle(documents, tokenizer, room)
        else:
            sources, targets, is_cut = batch.get("query", documents), documents, [False] * len(documents)
        x_ids = module.tokenize_rows([prompt + text for text in sources])
        ks = [sum(id_ in bottleneck for id_ in ids) for ids in x_ids]
        y_ids = tokenizer(targets, add_special_tokens=False, truncation=True, max_length=length)["input_ids"]
        y_ids = [ids if cut else (ids + eos)[:length] for ids, cut in zip(y_ids, is_cut, strict=True)]
        return {
            "input_ids": [x + y for x, y in zip(x_ids, y_ids, strict=True)],
            "segments": [
                [before_source] * prefix + [SOURCE] * (len(x) - prefix - k) + [BOTTLENECK] * k + [TARGET] * len(y)
                for x, y, k in zip(x_ids, y_ids, ks, strict=True)
            ],
            "labels": [[IGNORE] * len(x) + y for x, y in zip(x_ids, y_ids, strict=True)],
        }

    # The columns used are named: reconstruct reads the document of pairs too.
    columns = ["query", "document"] if objective == "sft" else ["document"]
    dataset = Dataset.from_list([{column: record[column] for column in columns} for record in records])
    return dataset.map(tokenize, batched=True, remove_columns=dataset.column_names, desc="Tokenizing")


def check_fits(module: BottleneckTransformer) -> None:
    """Refuse a maximum length with which ``[BOS? X Z Y]`` would be longer than the language model can read.

    Raises:
        InputError: If X and Z, and Y, each of the maximum length, have no place in one row.
    """
    positions, length = most_positions(module.model.config), module.max_seq_length
    if 2 * length > positions:
        raise InputError(
            f"stage 1 reads a text and its target in one row, up to 2 x {length} tokens, and this language model reads "
            f"{positions}; ask for a maximum length of {positions // 2} at most"
        )


def _split_in_the_middle(
    documents: list[str], tokenizer: PreTrainedTokenizerBase, room: int
) -> tuple[list[str], list[str], list[bool]]:
    """Return the first half of each document, its second half, and whether it was cut.

    A document is cut to twice ``room`` tokens first, so that X holds its half and Y goes on where X ends.
    """
    whole = tokenizer(documents, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    spans = [of_document[: 2 * room] for of_document in whole]
    middles = [of_document[len(of_document) // 2][0] for of_document in spans]
    ends = [of_document[-1][1] for of_document in spans]
    prefixes = [text[:middle] for text, middle in zip(documents, middles, strict=True)]
    suffixes = [text[middle:end] for text, middle, end in zip(documents, middles, ends, strict=True)]
    return prefixes, suffixes, [len(all_) > len(kept) for all_, kept in zip(whole, spans, strict=True)]


def collate(examples: Sequence[dict[str, list[int]]]) -> dict[str, Tensor]:
    """Pad examples on the right into ``(batch, seq)`` int64 tensors, with their ``attention_mask``."""

    def pad(rows: list[list[int]], value: int) -> Tensor:
        return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)

    return {
        "input_ids": pad([e["input_ids"] for e in examples], 0),
        "attention_mask": pad([[1] * len(e["input_ids"]) for e in examples], 0),
        "segments": pad([e["segments"] for e in examples], PREFIX),
        "labels": pad([e["labels"] for e in examples], IGNORE),
    }


def head_is_all(model: PreTrainedModel) -> bool:
    """Tell whether the logits of a language model are what its head makes of the last hidden states, and no more."""
    ids = torch.arange(4, device=model.device)[None]
    with evaluating(model), torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits.float()
        head: Any = model.get_output_embeddings()
        found = head(model.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    return torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


class IBGLModel(nn.Module):
    """The language model under the information cut-off, with its loss as output.

    Args:
        language_model: A causal language model that heeds attention masks.

    Raises:
        InputError: If information leaks through it from X to Y, see `lbr_st.masks.check_no_leak`.
    """

    # Tells the trainer to pass num_items_in_batch, so that accumulated gradients are those of the large batch.
    accepts_loss_kwargs = True

    def __init__(self, language_model: PreTrainedModel) -> None:
        super().__init__()
        check_no_leak(language_model)
        self.language_model: PreTrainedModel = language_model
        self.head_is_all = head_is_all(language_model)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        segments: Tensor,
        labels: Tensor,
        num_items_in_batch: Tensor | int | None = None,
    ) -> dict[str, Tensor]:
        """Return ``{"loss"}``: next-token cross-entropy on Y and its EOS (arXiv 2601.11124, eq. 2), in nats.

        The mean is per target token over the whole batch, not per sample: every token weighs the same however
        long its sequence, and with gradient accumulation the trainer's ``num_items_in_batch`` counts the targets of
        all micro-batches. The head runs on the rows that predict a target only: with a vocabulary of 151k, logits of
        all rows are the largest tensor in training. Families that do more with logits than their head (Gemma 2 caps
        them, Granite and Cohere scale them) are run as a whole.

        Args:
            input_ids: ``(batch, seq)`` int64.
            attention_mask: ``(batch, seq)``, 1 for tokens, 0 for padding on the right.
            segments: ``(batch, seq)``, see `lbr_st.masks`.
            labels: ``(batch, seq)``, the token itself on Y, `IGNORE` elsewhere.
            num_items_in_batch: Number of targets to divide by; default is those of this batch.
        """
        model = self.language_model
        shape_of_embeddings = torch.empty(*input_ids.shape, 0, dtype=model.dtype, device=input_ids.device)
        mask = cutoff_mask(model.config, shape_of_embeddings, attention_mask, segments)
        targets = labels[:, 1:]
        has_loss = targets != IGNORE
        inputs = {"input_ids": input_ids, "attention_mask": mask, "use_cache": False}
        if self.head_is_all:
            logits = model.get_output_embeddings()(model.base_model(**inputs).last_hidden_state[:, :-1][has_loss])
        else:
            logits = model(**inputs).logits[:, :-1][has_loss]
        total = F.cross_entropy(logits.float(), targets[has_loss], reduction="sum")
        return {"loss": total / (has_loss.sum() if num_items_in_batch is None else num_items_in_batch)}

    def gradient_checkpointing_enable(self, **kwargs: Any) -> None:
        """Recompute activations in the backward pass (the trainer's ``--gradient-checkpointing``)."""
        self.language_model.gradient_checkpointing_enable(**kwargs)


class IBGLTrainer(Trainer):
    """A `transformers.Trainer` whose checkpoints are whole models of the native layout.

    Args:
        model: Model whose first module is a `BottleneckTransformer`; trained in place.
        **kwargs: What the trainer takes.
    """

    def __init__(self, model: SentenceTransformer, **kwargs: Any) -> None:
        self.sentence_transformer = model
        super().__init__(model=IBGLModel(bottleneck_module(model).model), data_collator=collate, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self.sentence_transformer.save_pretrained(output_dir or str(self.args.output_dir), create_model_card=False)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        saved = BottleneckTransformer.load(resume_from_checkpoint)
        bottleneck_module(self.sentence_transformer).model.load_state_dict(saved.model.state_dict())

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


def main(argv: Sequence[str] | None = None) -> None:
    """Run stage 1 from the command line; see ``train_ibgl.py``.

    Raises:
        InputError: If the arguments, the data or the model cannot be used.
    """
    parser = make_parser("train_ibgl.py", "Stage 1: teach a causal language model a domain through a bottleneck.")
    add_stage_arguments(
        parser,
        model_help="causal language model to start from: local directory or Hub id",
        data_help="JSON Lines with a query and a document a line (question/answer, ...); "
        "reconstruct and prefix-suffix need the document only",
    )
    parser.add_argument(
        "--hide-bos",
        action="store_true",
        help="hide the token before the text from the target too (see docs/model.md)",
    )
    parser.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default="sft",
        help="; ".join(f"{name}: {meaning}" for name, meaning in OBJECTIVES.items()) + " (default: %(default)s)",
    )
    args, training_args = parse_arguments(
        parser,
        TrainingArguments,
        argv,
        learning_rate=2e-5,
        num_train_epochs=1,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        prediction_loss_only=True,
    )
    fields = ("query", "document") if args.objective == "sft" else ("document",)
    records = read_records(args.data, fields)
    dev_records = read_records(args.dev_data, fields) if args.dev_data else None
    run = describe_run(args, training_args, sha256([file for file in (args.data, args.dev_data) if file]))
    if is_finished(args, run):
        return
    model = open_model(args)
    set_prompts(model, args)
    module = bottleneck_module(model)
    if args.hide_bos and not module.num_prefix_tokens:
        raise InputError("--hide-bos: this model puts no token before a text")
    module.hide_bos |= args.hide_bos
    check_fits(module)
    check_no_leak(module.model)  # as the trainer does, but before texts are tokenized for minutes
    claim_output_dir(args, run)

    train = build_examples(records, model, args.objective)
    dev = build_examples(dev_records, model, args.objective) if dev_records else None
    if dev:
        evaluate_while_training(training_args)
    trainer = IBGLTrainer(model, args=training_args, train_dataset=train, eval_dataset=dev)
    train_to_the_end(trainer, args.output_dir)
    finish(model, trainer, "ibgl", args.output_dir, run)
