"""Stage 2, generative-refined contrastive learning (arXiv 2601.11124, section 3.3).

The same causal model reads ``[BOS? X Z]``; the hidden state of the last bottleneck token is the embedding. InfoNCE
(eq. 3) pulls a query to its document and away from the other documents of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import (
    BatchSamplers,
    SentenceTransformerTrainingArguments,
)

from lbr_st.errors import InputError
from lbr_st.modules import bottleneck_module
from lbr_st.records import Record, read_records
from lbr_st.training import (
    CANNOT_START,
    add_stage_arguments,
    check_launch,
    claim_output_dir,
    describe_run,
    evaluate_while_training,
    finish,
    is_finished,
    make_parser,
    open_model,
    parse_arguments,
    refuse_several_processes,
    set_prompts,
    train_to_the_end,
)


def dev_evaluator(records: Sequence[Record]) -> InformationRetrievalEvaluator:
    """Return the evaluator of held-out pairs: each query against all held-out documents.

    Args:
        records: With ``query`` and ``document``; documents that are equal count as one.
    """
    corpus = {record["document"]: record["id"] for record in records}
    return InformationRetrievalEvaluator(
        queries={record["id"]: record["query"] for record in records},
        corpus={id_: document for document, id_ in corpus.items()},
        relevant_docs={record["id"]: {corpus[record["document"]]} for record in records},
        name="dev",
        accuracy_at_k=[1],
        precision_recall_at_k=[10],
        mrr_at_k=[10],
        ndcg_at_k=[10],
        map_at_k=[10],
        write_csv=False,
    )


def freeze_unused_head(model: SentenceTransformer) -> None:
    """Keep an untied language-model head as it is: no embedding depends on it, so it would never get a gradient."""
    language_model = bottleneck_module(model).model
    head = language_model.get_output_embeddings()
    if head.weight is not language_model.get_input_embeddings().weight:
        head.requires_grad_(False)


def main(argv: Sequence[str] | None = None) -> None:
    """Run stage 2 from the command line; see ``train_grcl.py``.

    Raises:
        InputError: If the arguments, the data or the model cannot be used.
    """
    parser = make_parser("train_grcl.py", "Stage 2: align the model of stage 1 with query-document pairs.")
    add_stage_arguments(
        parser,
        model_help="output directory of stage 1; or any causal language model, to skip stage 1",
        data_help="JSON Lines with a query and a document a line (question/answer, anchor/positive, ...)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.05,
        metavar="TAU",
        help="of InfoNCE; 0.01 to 0.05 is the range to search (default: %(default)s)",
    )
    args, training_args = parse_arguments(
        parser,
        SentenceTransformerTrainingArguments,
        argv,
        learning_rate=2e-5,
        num_train_epochs=1,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=64,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
    )
    refuse_several_processes(training_args)
    check_launch(training_args, several=False)
    if not args.temperature > 0:
        raise InputError(f"--temperature must be above 0, got {args.temperature}")
    records = read_records(args.data)
    if len(records) < 2:
        raise InputError(f"{args.data}: in-batch negatives need at least 2 pairs, found {len(records)}")
    dev_records = read_records(args.dev_data) if args.dev_data else None
    run = describe_run(args, training_args, [records, dev_records or []])
    if is_finished(args, run):
        return
    model = open_model(args)
    set_prompts(model, args)
    train = Dataset.from_list([{"anchor": r["query"], "positive": r["document"]} for r in records])
    training_args.prompts = {"anchor": model.prompts["query"] or "", "positive": model.prompts["document"] or ""}
    if dev_records:
        evaluate_while_training(training_args)
    freeze_unused_head(model)
    try:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=training_args,
            train_dataset=train,
            loss=MultipleNegativesRankingLoss(model, scale=1 / args.temperature),
            evaluator=dev_evaluator(dev_records) if dev_records else None,
        )
    except CANNOT_START as error:
        raise InputError(" ".join(str(error).split())) from error
    claim_output_dir(args, training_args, run)
    train_to_the_end(trainer, args.output_dir)
    finish(model, trainer, "grcl", args.output_dir, run)
