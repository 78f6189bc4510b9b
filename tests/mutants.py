"""Small changes of the code, each of which must turn a test red: ``make test-mutants``.

A contract that no test notices the loss of is not held by the tests. Each change is made in a copy of the package, and
the tests named beside it are run on that copy; at least one must fail. They are run on the unchanged copy first.

    python tests/mutants.py              # all, two at a time
    python tests/mutants.py leak resume  # those with one of these words in their name
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

ROOT = Path(__file__).parent.parent
WORKERS = 2


class Mutant(NamedTuple):
    """A change of one line.

    Attributes:
        name: What is lost by it.
        file: Below ``lbr_st``.
        line: A piece of a line of it, which is there once.
        change: What stands there instead.
        tests: What must turn red, below ``tests``, as pytest takes it.
    """

    name: str
    file: str
    line: str
    change: str
    tests: str


MUTANTS = [
    # The verdict, and merging.
    Mutant(
        "verdict: an interval that holds 0 is a win",
        "verdict.py",
        "WIN if low > 0 else",
        "WIN if low >= 0 else",
        "test_verdict.py::test_queries_count_in_pairs",
    ),
    Mutant(
        "verdict: the last step is judged, and the best one saved",
        "training/verdicts.py",
        "kept = trainer.state.global_step if best is None else best",
        "kept = trainer.state.global_step",
        "training/test_verdicts.py::test_the_kept_weights_count_and_not_the_last",
    ),
    Mutant(
        "learn: how often a run is scored changes its weights",
        "learning/trainer.py",
        "with torch.random.fork_rng(devices=[]):",
        "if True:",
        "training/test_trial.py::test_a_try_is_a_short_run",
    ),
    Mutant(
        "merge: bottleneck tokens are averaged with what no model trained",
        "model/merging.py",
        "kept = _bottleneck_rows(module) if plain else []",
        "kept: list[Any] = []",
        "model/test_merging.py::test_a_backbone_and_what_became_of_it",
    ),
    Mutant(
        "merge: the best on dev is taken, whatever it costs elsewhere",
        "evaluation/shares.py",
        "kept = [each for each in tried if each.general >= keep_general * tried[0].general]",
        "kept = list(tried)",
        "evaluation/test_shares.py::test_the_rule",
    ),
    # What ends a command, and what is looked at first.
    Mutant(
        "interrupt: a run goes on after the step",
        "training/resume.py",
        "        if self.interrupts:\n            raise KeyboardInterrupt",
        "        if self.interrupts > 9:\n            raise KeyboardInterrupt",
        "training/test_interrupts.py",
    ),
    Mutant(
        "interrupt: a run without a checkpoint leaves its folder",
        "training/resume.py",
        "if state_of(output_dir) is State.BEGUN:",
        "if state_of(output_dir) is State.RUNNING:",
        "training/test_launch.py::test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing",
    ),
    Mutant(
        "kinds: compressed bytes are read as text",
        "data/kinds.py",
        "elif packed is not None:",
        "elif packed == suffix:",
        "data/test_rows.py::test_a_file_of_another_kind_than_its_name_says",
    ),
    Mutant(
        "passages: a set within a folder is text of it",
        "data/folders.py",
        "if Path(place) != folder and MADE.intersection(files):",
        "if Path(place) == folder and MADE.intersection(files):",
        "data/test_passages.py::test_what_this_package_made_within_a_folder_is_no_text_of_it",
    ),
    # One reader, and what it leaves out.
    Mutant(
        "reader: a title stays beside its text",
        "data/columns.py",
        "return [with_title(heading, text) for text in found] if len(found) == 1 else found",
        "return found",
        "data/test_columns.py::test_usual_names cli/test_one_reader.py::test_readers",
    ),
    Mutant(
        "reader: raw files are read as they are",
        "data/records.py",
        "cleaned = [clean_record(record, self.keep_html) for record in found]",
        "cleaned = list(found)",
        "cli/test_one_reader.py::test_half_a_surrogate_pair_anywhere",
    ),
    Mutant(
        "reader: what stands behind front matter moves up",
        "data/front_matter.py",
        '"\\n" * end + "\\n".join(lines[end:])',
        '"\\n".join(lines[end:])',
        "data/test_passages.py::test_front_matter_is_a_title_and_no_text",
    ),
    Mutant(
        "reader: front matter that does not parse is text",
        "data/front_matter.py",
        'return is_all and (len(names) > 1 or "title" in names)',
        "return False",
        "data/test_front_matter.py::test_what_does_not_parse_is_left_out_all_the_same",
    ),
    Mutant(
        "reader: a quote that is never closed takes in the next row",
        "data/delimited.py",
        "if found is None and not (is_record and self._is_record_next(len(plain))):",
        "if found is None:",
        "data/test_delimited.py::test_quotes_in_a_tsv",
    ),
    Mutant(
        "reader: lines that were looked at are lost",
        "data/delimited.py",
        "self._ahead.extendleft(reversed(taken))",
        "pass",
        "data/test_delimited.py::test_numbers_of_lines_behind_a_quote_that_is_never_closed",
    ),
    Mutant(
        "reader: an exponent is a digit of its number",
        "data/raised.py",
        "return bare.translate(_SUP)",
        "return bare",
        "data/test_raised.py::test_superscripts_and_subscripts",
    ),
    Mutant(
        "ids: a table that grows forgets",
        "data/ids.py",
        "_put(larger, each)",
        "each",
        "data/test_ids.py::test_many_ids_need_little_memory",
    ),
    Mutant(
        "folders: what is not read is not said",
        "data/folders.py",
        'account.note(f"not read: {_by_suffix(others)}", len(others))',
        "pass",
        "data/test_folders.py::test_the_line",
    ),
    Mutant(
        "lengths: the prompt is left out of the count",
        "model/lengths.py",
        "return self._count([self.prompt + text for text in texts])",
        "return self._count([text for text in texts])",
        "model/test_lengths.py::test_a_model_of_this_package model/test_lengths.py::test_any_other_model",
    ),
    Mutant(
        "encode: a run that made nothing leaves its texts",
        "use/encode.py",
        "except BaseException as error:",
        "except KeyError as error:",
        "use/test_encode.py::test_a_run_that_fails_before_it_made_something_leaves_nothing",
    ),
    Mutant(
        "encode: a run that made nothing keeps the folder for itself",
        "use/shards.py",
        "if not has_embeddings(folder):\n                    return None",
        "if False:\n                    return None",
        "use/test_encode.py::test_another_run_may_begin_where_one_made_nothing",
    ),
    # GGUF files, and BM25 beside a model.
    Mutant(
        "gguf: numbers are split as GPT-2 splits them",
        "model/gguf.py",
        'SINGLE_DIGITS = {"smollm", ',
        "SINGLE_DIGITS = {",
        "model/test_gguf.py::test_numbers_are_split_as_the_file_says",
    ),
    Mutant(
        "gguf: tensors that are not there stay random",
        "model/gguf.py",
        "model = check_opened(str(file), opened)",
        "model, _ = opened",
        "model/test_gguf.py::test_what_cannot_be_read_is_one_line",
    ),
    Mutant(
        "gguf: dense weights are still taken for quantized ones",
        "model/gguf.py",
        "transformers.GgufConfig(dequantize=True)",
        "transformers.GgufConfig()",
        "model/test_gguf.py::test_saved_trained_and_read_again",
    ),
    Mutant(
        "gguf: another file of the same name is taken for the same model",
        "model/contract.py",
        "return sha256([file])",
        "return file.name",
        "model/test_gguf.py::test_stage_2_starts_from_it_and_resumes_by_its_contents",
    ),
    Mutant(
        "fusion: scores are added as they are",
        "evaluation/ranking.py",
        "weight * standardized(dense) + (1 - weight) * standardized(lexical)",
        "weight * dense + (1 - weight) * lexical",
        "evaluation/test_fusion.py::test_fused_is_the_weighted_sum_of_standard_scores",
    ),
    Mutant(
        "fusion: BM25's answers are taken for those of other queries",
        "evaluation/fusion.py",
        "return lexical.scores[[row[query] for query in dense.queries]]",
        "return lexical.scores",
        "evaluation/test_fusion.py::test_queries_in_another_order",
    ),
    Mutant(
        "fusion: documents without a word of the query have a rank by words",
        "evaluation/ranking.py",
        "np.where(lexical > 0, 1 / (RRF_K + ranks(lexical)), 0)",
        "1 / (RRF_K + ranks(lexical))",
        "evaluation/test_ranking.py::test_fused_by_hand evaluation/test_fusion.py::test_fused_by_reciprocal_ranks",
    ),
    Mutant(
        "fusion: the weight is chosen without BM25",
        "evaluation/fusion.py",
        "ndcg_at_10(fuse(dense.scores, of_bm25, weight), relevant)",
        "ndcg_at_10(dense.scores, relevant)",
        "evaluation/test_fusion.py::test_the_weight_is_the_one_that_ranks_dev_best",
    ),
    Mutant(
        "filter: what BM25 misses is not looked for by a model",
        "adaptation/filtering.py",
        "for name in config.searchers:",
        "for name in config.searchers[:1]:",
        "adaptation/test_filtering.py::test_one_that_finds_it_is_enough",
    ),
    Mutant(
        "filter: what people asked must be found too",
        "adaptation/filtering.py",
        'written = [row for row in rows if row.get("kind") != GIVEN]',
        "written = list(rows)",
        "adaptation/test_filtering.py::test_what_people_asked_stays",
    ),
    Mutant(
        "filter: what tells no two passages apart finds all of them",
        "evaluation/ranking.py",
        "(~(scores < own)).sum(axis=1)",
        "1 + (scores > own).sum(axis=1)",
        "evaluation/test_ranking.py::test_ranks_by_hand",
    ),
    # What a model reads, adapters, and the end of a run.
    Mutant(
        "positions: those that RoBERTa's padding takes are counted",
        "model/positions.py",
        "return numbers[0] - (about.pad_token_id + 1)",
        "return numbers[0]",
        "model/test_positions.py::test_the_number_is_what_the_model_can_read",
    ),
    Mutant(
        "positions: a length is taken whatever the model reads",
        "model/bottleneck.py",
        "check_positions(value, self.model.config)",
        "pass",
        "model/test_positions.py::test_a_backbone_with_few_positions",
    ),
    Mutant(
        "adapters: one that does not fit is merged all the same",
        "model/adapters.py",
        "strangers = sorted({*found.unexpected_keys, *found.missing_keys})",
        "strangers = []",
        "model/test_adapters.py::test_an_adapter_that_does_not_fit",
    ),
    Mutant(
        "adapters: one for another task is taken",
        "model/adapters.py",
        'if task not in (None, "CAUSAL_LM"):',
        "if False:",
        "model/test_adapters.py::test_adapters_for_other_tasks_are_refused",
    ),
    Mutant(
        "quantized checkpoints are opened",
        "model/backbone.py",
        'if (quantized := getattr(config, "quantization_config", None)) is not None:',
        'if (quantized := getattr(config, "quantization_confg", None)) is not None:',
        "model/test_adapters.py::test_quantized_checkpoints_are_refused_by_name",
    ),
    Mutant(
        "endings: without checkpoints the weights are lost",
        "training/resume.py",
        "_save_now(trainer, output_dir, save_only_model=True)",
        "pass",
        "training/test_endings.py::test_failures_at_the_end_lose_nothing",
    ),
    Mutant(
        "endings: an evaluation that fails costs the steps before it",
        "training/resume.py",
        "if steps.is_between and trainer.args.world_size == 1 and steps.interrupts < 2:",
        "if False:",
        "training/test_endings.py::test_an_evaluation_that_fails_costs_no_step",
    ),
    Mutant(
        "errors: a bug is one line",
        "errors.py",
        "return _of_the_system(error, said) if isinstance(error, OSError) else _of_an_environment(error, said)",
        "return said",
        "test_errors.py::test_a_bug_of_ours_is_no_line",
    ),
    # Stage 1: examples, loss, batches, what is logged.
    Mutant(
        "examples: the prompt is left out of X",
        "learning/examples.py",
        "for ids in module.tokenize_rows([prompt + text for text in sources]):",
        "for ids in module.tokenize_rows(sources):",
        "learning/test_examples.py::test_sft_example_written_out",
    ),
    Mutant(
        "examples: none without datasets",
        "learning/examples.py",
        "if TYPE_CHECKING:",
        "if True:",
        "test_packaging.py::test_pieces_of_the_stages_are_used_without_datasets",
    ),
    Mutant(
        "batches of stage 2: none without datasets",
        "alignment/batches.py",
        "if TYPE_CHECKING:",
        "if True:",
        "test_packaging.py::test_pieces_of_the_stages_are_used_without_datasets",
    ),
    Mutant(
        "examples: Y ends without EOS",
        "learning/examples.py",
        "yield ids if cut else (ids + eos)[:length]",
        "yield ids[:length]",
        "learning/test_examples.py::test_sft_example_written_out",
    ),
    Mutant(
        "examples: an EOS after a text that was cut",
        "learning/examples.py",
        "yield ids if cut else (ids + eos)[:length]",
        "yield (ids + eos)[:length]",
        "learning/test_examples.py::test_prefix_suffix_goes_on_where_the_prefix_ends",
    ),
    Mutant(
        "examples: Y in sight of X",
        "learning/examples.py",
        "source = SOURCE if self.arm is Arm.CUT_OFF else PREFIX",
        "source = PREFIX",
        "learning/test_examples.py::test_sft_example_written_out",
    ),
    Mutant(
        "examples: X has a loss",
        "learning/examples.py",
        'rows["labels"].append([IGNORE] * len(x) + y if x else [IGNORE, *y[1:]])',
        'rows["labels"].append(x + y)',
        "learning/test_examples.py::test_sft_example_written_out",
    ),
    Mutant(
        "examples: doc2query reads the query",
        "learning/examples.py",
        'return documents, columns["query"], whole',
        'return columns["query"], documents, whole',
        "learning/test_examples.py::test_doc2query_is_sft_with_its_sides_exchanged",
    ),
    Mutant(
        "examples: the model is pickled for a fingerprint",
        "learning/examples.py",
        'new_fingerprint=f"examples-{make.objective}",',
        "",
        "learning/test_examples.py::test_no_weights_are_hashed_for_examples",
    ),
    Mutant(
        "examples: the wrong X is its own",
        "learning/examples.py",
        "other = nearest_with_another_source(index)",
        "other = index",
        "learning/test_examples.py::test_wrong_bottleneck_is_another_x_and_the_same_y",
    ),
    Mutant(
        "examples: a mixture without the shares asked for",
        "learning/examples.py",
        "count = max(round(weights[name] * total), len(examples))",
        "count = len(examples)",
        "learning/test_examples.py::test_mixture_has_the_shares_asked_for_and_every_example",
    ),
    Mutant(
        "loss: the mean is per example",
        "learning/masked_model.py",
        'return {"loss": self.loss_sum(batch) / (counts.sum() if num_items_in_batch is None else num_items_in_batch)}',
        'return {"loss": self.loss_sum(batch) / len(counts)}',
        "learning/test_masked_model.py",
    ),
    Mutant(
        "loss: accumulation is a mean of means",
        "learning/masked_model.py",
        "accepts_loss_kwargs = True",
        "accepts_loss_kwargs = False",
        "learning/test_trainer.py::test_accumulation_gives_the_gradients_of_the_large_batch",
    ),
    Mutant(
        "loss: no read-out loss in training",
        "learning/masked_model.py",
        "if self.read_out_weight:",
        "if False:",
        "learning/test_masked_model.py",
    ),
    Mutant(
        "loss: the read-out loss is of the first Z",
        "learning/masked_model.py",
        "is_read_out = (batch.segments[:, :-1] == BOTTLENECK) & (batch.segments[:, 1:] == TARGET)",
        "is_read_out = (batch.segments[:, :-1] == BOTTLENECK) & (batch.segments[:, 1:] == BOTTLENECK)",
        "learning/test_masked_model.py",
    ),
    Mutant(
        "loss: the mask is left out of training",
        "learning/masked_model.py",
        "if self.bottleneck or batch.sequences is not None:",
        "if batch.sequences is not None:",
        "learning/test_masked_model.py",
    ),
    Mutant(
        "read-out: what every text says counts too",
        "evaluation/read_out.py",
        "after.exp() * (after - before)",
        "after.exp()",
        "evaluation/test_read_out.py",
    ),
    Mutant(
        "read-out: spellings of a word are several",
        "evaluation/read_out.py",
        "words.get(word.casefold(), (word, 0.0))",
        "words.get(word, (word, 0.0))",
        "evaluation/test_read_out.py",
    ),
    Mutant(
        "loss: gradients of the head in chunks are those of the last",
        "learning/cross_entropy.py",
        "gradient += of_chunk",
        "gradient.copy_(of_chunk)",
        "learning/test_cross_entropy.py::test_chunked_is_plain",
    ),
    Mutant(
        "batches: padding has a loss",
        "learning/batches.py",
        '"labels": pad([e["labels"] for e in examples], IGNORE),',
        '"labels": pad([e["labels"] for e in examples], 0),',
        "learning/test_batches.py learning/test_masked_model.py",
    ),
    Mutant(
        "batches: positions run on over packed examples",
        "learning/batches.py",
        'batch["position_ids"] = columns - torch.where(starts, columns, 0).cummax(dim=1).values',
        'batch["position_ids"] = columns',
        "learning/test_batches.py learning/test_masked_model.py",
    ),
    Mutant(
        "batches: the order is the same in every epoch",
        "learning/batches.py",
        "self.generator = torch.Generator().manual_seed(self.seed + self.epoch)",
        "self.generator = torch.Generator().manual_seed(self.seed)",
        "learning/test_batches.py",
    ),
    Mutant(
        "nats: not beside the loss with its own X",
        "learning/trainer.py",
        'wrong["loss_sums"] - own["loss_sums"]',
        'wrong["loss_sums"]',
        "learning/test_trainer.py::test_held_out_loss_and_nats",
    ),
    Mutant(
        "tokens: padding is counted",
        "learning/trainer.py",
        'self._tokens = self._tokens + inputs["attention_mask"].sum()',
        'self._tokens = self._tokens + inputs["attention_mask"].numel() + 0 * inputs["attention_mask"].sum()',
        "learning/test_trainer.py::test_tokens_that_are_counted",
    ),
    # Resuming, and what a run ends with.
    Mutant(
        "resume: a damaged checkpoint is taken",
        "training/resume.py",
        "except (FileNotFoundError, json.JSONDecodeError):",
        "except FileNotFoundError:",
        "training/test_resume.py::test_a_checkpoint_cut_off_by_a_kill_is_passed_over",
    ),
    Mutant(
        "resume: the oldest checkpoint is taken",
        "training/resume.py",
        "return found[max(found)] if found else None",
        "return found[min(found)] if found else None",
        "training/test_resume.py::test_a_checkpoint_cut_off_by_a_kill_is_passed_over",
    ),
    Mutant(
        "resume: a run with other settings is gone on with",
        "training/resume.py",
        "        if changed:\n",
        "        if False:\n",
        "training/test_resume.py::test_another_run_is_refused_with_what_is_different",
    ),
    Mutant(
        "resume: files of something else are overwritten",
        "training/resume.py",
        "if RUN_FILE not in names:",
        "if False:",
        "training/test_resume.py",
    ),
    Mutant(
        "resume: a finished run is trained again",
        "training/resume.py",
        "if stopped_early or state.global_step >= state.max_steps:",
        "if False:",
        "learning/test_run.py::test_best_model_of_a_run_killed_while_it_was_saved",
    ),
    Mutant(
        "resume: the epoch is not told to the sampler",
        "training/callbacks.py",
        "self.sampler.set_epoch(int(state.epoch or 0))",
        "self.sampler.set_epoch(0)",
        "training/test_callbacks.py",
    ),
    Mutant(
        "resume: the data are no part of the run",
        "training/describe.py",
        '"data_sha256": data_sha256(data),',
        '"data_sha256": "",',
        "cli/test_main.py::test_resume_refuses_other_data",
    ),
    Mutant(
        "rates: the run does not say the rate it used",
        "learning/run.py",
        '    set_learning_rate(arguments, "learn")\n',
        "",
        "training/test_rates.py::test_a_run_has_the_rate_of_its_size_and_says_so",
    ),
    Mutant(
        "rates: LoRA has less than training of all weights",
        "training/rates.py",
        "return max(rate, _between(LORA[stage], parameters)) if lora else rate",
        "return _between(LORA[stage], parameters) if lora else rate",
        "training/test_rates.py::test_a_larger_model_never_gets_a_larger_rate",
    ),
    Mutant(
        "rates: a rate that is given does not count",
        "training/rates.py",
        "if arguments.learning_rate is not None:",
        "if arguments.learning_rate:",
        "training/test_rates.py::test_the_rate_that_is_given_counts",
    ),
    Mutant(
        "rising loss: a loss that is not a number is none",
        "training/callbacks.py",
        "losses = [loss if math.isfinite(loss) else math.inf for loss in losses]",
        "losses = list(losses)",
        "training/test_callbacks.py::test_what_is_a_rise",
    ),
    Mutant(
        "rising loss: noise is one",
        "training/callbacks.py",
        "if score > LEAST_SCORE and rise.after",
        "if rise.after",
        "training/test_callbacks.py",
    ),
    Mutant(
        "rising loss: stage 2 does not watch",
        "alignment/trainer.py",
        "        self._rising.add(loss)\n",
        "        self._rising = WarnOfRisingLoss()\n",
        "training/test_callbacks.py::test_what_is_looked_at_is_the_loss_of_the_log",
    ),
    Mutant(
        "best: the last weights are kept",
        "training/callbacks.py",
        "arguments.load_best_model_at_end = True",
        "arguments.load_best_model_at_end = False",
        "alignment/test_run.py::test_the_best_checkpoint_is_kept",
    ),
    Mutant(
        "best: no checkpoint at an evaluation",
        "training/callbacks.py",
        "control.should_save = True",
        "pass",
        "learning/test_run.py::test_the_checkpoint_is_selected_by_a_signal",
    ),
    Mutant(
        "history: the scores are those of the last step",
        "training/finish.py",
        'if kept is None or entry.get("step") == kept:',
        "if True:",
        "training/test_finish.py",
    ),
    Mutant(
        "lora: the rows of the bottleneck do not train",
        "training/lora.py",
        "trainable_token_indices={name: module.bottleneck_token_ids},",
        "",
        "training/test_lora.py::test_merged_is_adapted",
    ),
    # Stage 2: which texts may be negatives of which query, and the loss.
    Mutant(
        "pairs: another answer of a query is its negative",
        "alignment/batches.py",
        "if not batch.texts.isdisjoint(self.answers.get(query, ())):",
        "if False:",
        "alignment/test_batches.py",
    ),
    Mutant(
        "pairs: a text is in a batch twice",
        "alignment/batches.py",
        "if text in batch.texts or not batch.queries.isdisjoint(self.answered_by.get(text, ())):",
        "if not batch.queries.isdisjoint(self.answered_by.get(text, ())):",
        "alignment/test_batches.py",
    ),
    Mutant(
        "pairs: an answer of a query comes as a negative of another row",
        "alignment/batches.py",
        "if text in batch.texts or not batch.queries.isdisjoint(self.answered_by.get(text, ())):",
        "if text in batch.texts:",
        "alignment/test_batches.py",
    ),
    Mutant(
        "pairs: a hard negative that answers the query is trained",
        "alignment/batches.py",
        'negatives = [text for text in record["negatives"] if same_text(text, same) not in answers]',
        'negatives = record["negatives"]',
        "alignment/test_batches.py",
    ),
    Mutant(
        "rows: of a key that is there twice one is lost",
        "data/rows.py",
        "if found[key] != value:",
        "if False:",
        "data/test_rows.py::test_a_key_that_is_twice_in_an_object_is_refused",
    ),
    Mutant(
        "rows: a header that comes again is a pair",
        "data/delimited.py",
        "return names == self.header",
        "return False",
        "data/test_delimited.py::test_rows_that_say_the_header_once_more_are_none",
    ),
    Mutant(
        "texts: numpy's texts are joined",
        "data/texts.py",
        "if _ARRAY.fullmatch(text):",
        "if False:",
        "data/test_texts.py::test_texts_of_lists_that_are_written_out",
    ),
    Mutant(
        "pairs: processes have parts of different sizes",
        "alignment/batches.py",
        "whole = batch.rows[: len(batch.rows) - len(batch.rows) % self.num_processes]",
        "whole = batch.rows",
        "alignment/test_batches.py",
    ),
    Mutant(
        "pairs: the order is the same in every epoch",
        "alignment/batches.py",
        "self.random.manual_seed(self.seed + self.epoch)",
        "self.random.manual_seed(self.seed)",
        "alignment/test_batches.py",
    ),
    Mutant(
        "InfoNCE: the temperature is upside down",
        "alignment/losses.py",
        '"scale": 1 / temperature,',
        '"scale": temperature,',
        "alignment/test_losses.py",
    ),
    Mutant(
        "InfoNCE: symmetric is one way",
        "alignment/losses.py",
        "if symmetric:",
        "if False:",
        "alignment/test_losses.py",
    ),
    Mutant(
        "joint: the loss of stage 1 has no weight",
        "alignment/losses.py",
        '"lm": self.weight * self.lm_loss(examples)',
        '"lm": self.lm_loss(examples)',
        "alignment/test_losses.py",
    ),
    Mutant(
        "teacher: a chunk of the cached loss counts as a whole batch",
        "alignment/distillation.py",
        "return weight * len(rows) / len(queries) * divergence",
        "return weight * divergence",
        "alignment/test_distillation.py",
    ),
    Mutant(
        "teacher: the same document stands in a list again and again",
        "alignment/distillation.py",
        "positives[(rows + step) % len(positives)]",
        "positives[rows]",
        "alignment/test_distillation.py",
    ),
    Mutant(
        "teacher: answers that are there are asked for again",
        "alignment/teacher.py",
        "zip(files, parts, strict=True) if not file.is_file()}",
        "zip(files, parts, strict=True)}",
        "alignment/test_teacher.py::test_what_was_asked_before_a_kill_is_not_asked_again",
    ),
    Mutant(
        "teacher: a weaker one is taken",
        "alignment/teacher.py",
        "elif teacher.config.weak_teacher:",
        "elif True:",
        "alignment/test_teacher.py::test_a_weaker_teacher_is_refused_with_both_numbers",
    ),
    Mutant(
        "teacher: a reranker's sigmoid presses the best together",
        "alignment/teacher.py",
        '"activation_fn": nn.Identity()',
        '"activation_fn": None',
        "alignment/test_teacher.py::test_a_reranker_scores_the_documents_of_a_row_before_the_activation",
    ),
    Mutant(
        "align: an unused head gets no gradient and is trained",
        "alignment/run.py",
        "head.requires_grad_(False)",
        "pass",
        "alignment/test_run.py::test_an_untied_head_is_frozen",
    ),
    Mutant(
        "align: training that makes the model worse is not told",
        "alignment/run.py",
        "if before and after and max(after) < before[0]:",
        "if False:",
        "alignment/test_run.py::test_a_run_that_makes_the_model_worse_says_so",
    ),
    Mutant(
        "align: documents of the extra corpus do not compete",
        "alignment/run.py",
        "embeddings = HeldOutEvaluator(data.dev, data.dev_corpus, **options)",
        "embeddings = HeldOutEvaluator(data.dev, **options)",
        "alignment/test_run.py::test_the_dev_corpus_may_have_more_documents",
    ),
    # Use and evaluation.
    Mutant(
        "encode: shards that are there are encoded again",
        "use/shards.py",
        "self.done = [shard for shard in range(shards) if part(folder, shard).is_file()]",
        "self.done = []",
        "use/test_encode.py::test_an_interrupted_run_goes_on",
    ),
    Mutant(
        "encode: another run is gone on with",
        "use/shards.py",
        "if about.get(name) != value:",
        "if about.get(name) is None:",
        "use/test_encode.py::test_other_settings_are_another_run",
    ),
    Mutant(
        "encode: the scale of int8 is found anew",
        "use/encode.py",
        "manifest.keep_ranges(encoder.calibrate())",
        "encoder.calibrate()",
        "use/test_encode.py::test_an_interrupted_run_goes_on",
    ),
    Mutant(
        "encode: queries get the prompt of documents",
        "use/encode.py",
        'encode: Any = self.model.encode_query if self.job.role == "query" else self.model.encode_document',
        "encode: Any = self.model.encode_document",
        "use/test_encode.py::test_the_embeddings_of_the_model",
    ),
    Mutant(
        "encode: a full folder is written to",
        "use/encode.py",
        "require_free(folder)",
        "pass",
        "use/test_encode.py::test_refusals_leave_nothing_behind",
    ),
    Mutant(
        "files: what is unfinished has a name that readers see",
        "files.py",
        'unfinished = path.with_name(f".{path.name}{UNFINISHED}")',
        'unfinished = path.with_name(f"{path.name}{UNFINISHED}")',
        "use/test_encode.py::test_a_run_killed_before_its_manifest_is_begun_again",
    ),
    Mutant(
        "export: a vector that is no number passes",
        "use/export_check.py",
        "if not cosine >= format_.least_cosine:  # NaN is not either",
        "if cosine < format_.least_cosine:",
        "use/test_export.py::test_the_pooled_output_is_compared_too",
    ),
    Mutant(
        "export: the pooled output is not compared",
        "use/export_check.py",
        "return dict(zip(OUTPUTS, (pooled_here, pooled), strict=True))",
        "return dict(zip(OUTPUTS, (pooled_here, pooled_here), strict=True))",
        "use/test_export.py::test_the_pooled_output_is_compared_too",
    ),
    Mutant(
        "export: texts are not cut",
        "use/export.py",
        "tokenizer.enable_truncation(original.max_seq_length)",
        "tokenizer.no_truncation()",
        "use/test_export.py::test_wrong_vectors_are_refused_and_nothing_is_left",
    ),
    Mutant(
        "gguf: heads are in the order of transformers",
        "use/gguf_export.py",
        "return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))",
        "return np.ascontiguousarray(halves.reshape(rows.shape))",
        "use/test_gguf_export.py::test_tensors_are_those_of_another_writer",
    ),
    Mutant(
        "gguf: windows that llama.cpp does not know pass",
        "use/gguf_export.py",
        'if window is not None and "sliding_attention" in layers and window < length:',
        'if window is not None and "sliding_attention" not in layers and window < length:',
        "use/test_gguf_export.py::test_refused_shapes",
    ),
    Mutant(
        "gguf: a text spells the bottleneck token",
        "use/gguf_vocabulary.py",
        "tokens[eos], kinds[eos] = UNSPELLED + tokens[eos], CONTROL",
        "kinds[eos] = CONTROL",
        "use/test_gguf_vocabulary.py::test_the_same_tokens",
    ),
    Mutant(
        "gguf: other tokens pass",
        "use/gguf_vocabulary.py",
        "if all(holds(text) for holds in needs.values()) and not _same(theirs, original, text):",
        "if all(holds(text) for holds in needs.values()) and _same(theirs, original, text) is None:",
        "use/test_gguf_vocabulary.py::test_refusals",
    ),
    Mutant(
        "export: a full folder is written over",
        "use/export.py",
        "require_empty(output_dir)",
        "pass",
        "use/test_export.py::test_nothing_is_written_over",
    ),
    Mutant(
        "evaluate: scores of other weights are taken",
        "evaluation/own_data.py",
        'overwrite_strategy="always",',
        'overwrite_strategy="only-missing",',
        "evaluation/test_own_data.py::test_another_model_in_memory_never_gets_the_score_of_the_first",
    ),
    Mutant(
        "evaluate: a prepared set is searched in its test alone",
        "evaluation/own_data.py",
        'files = [prepared.file("test"), prepared.file("corpus")] if prepared else [str(data)]',
        'files = [prepared.file("test")] if prepared else [str(data)]',
        "evaluation/test_own_data.py::test_a_prepared_set",
    ),
    Mutant(
        "inspect: nats are the loss",
        "evaluation/inspect.py",
        "nats = nats_through_bottleneck(language_model, examples, batch_size)",
        "nats = held_out_loss(language_model, examples, batch_size)",
        "evaluation/test_inspect.py::test_numbers_of_a_model_of_this_package",
    ),
    # Data: near-duplicates, isolation, splits, mining.
    Mutant(
        "near-duplicates: the prefix is one too short",
        "data/near_duplicates.py",
        "[: most_absent + 1]",
        "[:most_absent]",
        "data/test_near_duplicates.py::test_all_pairs_are_found",
    ),
    Mutant(
        "near-duplicates: many copies fall apart",
        "data/near_duplicates.py",
        "return [*((bucket[0], j) for j in bucket[1:]), *zip(bucket[1:], bucket[2:], strict=False)]",
        "return [*zip(bucket[1:], bucket[2:], strict=False)]",
        "data/test_near_duplicates.py::test_many_copies_of_one_text_are_one_group",
    ),
    Mutant(
        "near-duplicates: a compound is like another",
        "data/near_duplicates.py",
        "if level != LOOSE and is_formula(text):",
        "if False:",
        "data/test_near_duplicates.py::test_shingles_of_formulas_and_code",
    ),
    Mutant(
        "same text: case says nothing in formulas",
        "data/same_text.py",
        "if level != AUTO or is_notation(text):",
        "if level != AUTO:",
        "data/test_same_text.py::test_formulas_are_told_apart",
    ),
    Mutant(
        "same text: a set does not follow what it was made with",
        "data/isolate.py",
        "fields, threshold, table.same):",
        "fields, threshold):",
        "data/test_isolate.py::test_nothing_left_to_train_on_is_an_error",
    ),
    Mutant(
        "same text: nothing is left, and a set is made",
        "data/preparing.py",
        "if is_asked and taken and not len(table.on(side)):",
        "if False:",
        "data/test_isolate.py::test_nothing_left_to_train_on_is_an_error",
    ),
    Mutant(
        "words: a text without spaces is one",
        "data/words.py",
        "return (_OF_ASCII if text.isascii() else _WORD_OR_MARK).findall(text)",
        "return _OF_ASCII.findall(text)",
        "data/test_passages.py::test_text_of_a_language_without_spaces_is_as_long_as_another",
    ),
    Mutant(
        "BM25: every script is English",
        "evaluation/own_data.py",
        "self.tokens = tokens_of([*self.queries, *self.documents])",
        "self.tokens = tokens_of([])",
        "evaluation/test_bm25.py::test_text_without_spaces_is_found",
    ),
    Mutant(
        "overlap: capitals make another text",
        "data/overlap.py",
        "same = self._same.get(same_text(text, self.level))",
        "same = self._same.get(text)",
        "data/test_overlap.py::test_kinds",
    ),
    Mutant(
        "overlap: hard negatives are not looked at",
        "data/overlap.py",
        'own += [("negative", "document", negative) for negative in record.get("negatives") or ()]',
        "own += []",
        "data/test_overlap.py::test_hard_negatives_are_documents",
    ),
    Mutant(
        "isolation: dev may be in test",
        "data/isolate.py",
        'for trained, held_out in (("dev", ("test",)), ("train", HELD_OUT)):',
        'for trained, held_out in (("train", HELD_OUT),):',
        "data/test_isolate.py::test_overlap_is_taken_from_training_never_from_test",
    ),
    Mutant(
        "isolation: a hard negative that is held out stays",
        "data/isolate.py",
        "table.negatives[index] = [text for text in negatives if text != overlap.text]",
        "table.negatives[index] = negatives",
        "data/test_isolate.py::test_hard_negatives_that_are_held_out_go",
    ),
    Mutant(
        "isolation: groups are parted",
        "data/isolate.py",
        "        if group[index].as_py() in held_out:",
        "        if False:",
        "data/test_isolate.py::test_groups_of_a_given_test_are_held_out",
    ),
    Mutant(
        "isolation: what was written is not looked at for stage 2",
        "data/isolate.py",
        '(("learn", "align") if has_pairs else ("passages",), HELD_OUT)',
        '(("learn",) if has_pairs else ("passages",), HELD_OUT)',
        "data/test_preparing.py::test_a_set_that_is_not_isolated_is_not_kept",
    ),
    Mutant(
        "split: one group is most of the test",
        "data/split.py",
        "fits = members[group] <= min(size - taken, max(1, LARGEST_SHARE * size))",
        "fits = members[group] <= size - taken",
        "data/test_split.py::test_groups_are_whole_and_sets_no_larger_than_asked",
    ),
    Mutant(
        "split: the order of the input matters",
        "data/split.py",
        'waiting = [int(group) for group in np.argsort(least, kind="stable") if members[group]]',
        "waiting = [group for group in range(total) if members[group]]",
        "data/test_split.py::test_records_alone_fill_the_sizes_and_their_order_does_not_matter",
    ),
    Mutant(
        "duplicates: near ones stay",
        "data/deduplicate.py",
        "clusters[own] = connected([np.arange(len(first))], pairs)[inverse]",
        "clusters[own] = connected([np.arange(len(first))], [])[inverse]",
        "data/test_deduplicate.py::test_duplicates",
    ),
    Mutant(
        "judgements: a row judged 0 is an answer",
        "data/judgements.py",
        "if answers == names.denies(column):",
        "if False:",
        "data/test_records.py::test_rows_judged_no_answer_are_hard_negatives",
    ),
    Mutant(
        "judgements: a document judged both ways is its own hard negative",
        "data/judgements.py",
        "or documents[index] in answering[query] or",
        "or",
        "data/test_judgements.py::test_of_the_answers_of_their_query",
    ),
    Mutant(
        "texts: a message that is not to be learned from is an answer",
        "data/texts.py",
        "if not any(message.get(key) == 0 for key in _LEARNED):",
        "if True:",
        "data/test_columns.py::test_messages_that_are_not_to_be_learned_from_are_passed_over",
    ),
    Mutant(
        "columns: objects of documents are not judged",
        "data/columns.py",
        "found.setdefault(key, []).extend(of_each[key])",
        "pass",
        "data/test_columns.py::test_documents_whose_objects_are_judged",
    ),
    Mutant(
        "judgements: two values under another name are ignored",
        "data/judgements.py",
        "is_said = {0.0, 1.0} <= words",
        "is_said = False",
        "data/test_columns.py::test_values_that_look_like_judgements_are_refused_under_any_name",
    ),
    Mutant(
        "judgements: the least score goes to the likeliest of several columns",
        "data/judgements.py",
        "if len(columns) > 1:",
        "if len(columns) > 99:",
        "data/test_columns.py::test_the_least_score_is_of_one_column",
    ),
    Mutant(
        "columns: hard negatives of no query are said to be used",
        "data/columns.py",
        "if negatives.columns:  # of what?",
        "if False:",
        "data/test_columns.py::test_hard_negatives_of_no_query_are_refused",
    ),
    Mutant(
        "columns: the title of a question is put before its answer",
        "data/columns.py",
        "if names.several([document], names.ANSWER):",
        "if False:",
        "data/test_columns.py::test_a_title_that_may_be_the_questions",
    ),
    Mutant(
        "columns: of several positives the first is read",
        "data/columns.py",
        "return found or document_in(columns[0], where, values)",
        "return found[:1] or document_in(columns[0], where, values)",
        "data/test_columns.py::test_several_positives_are_several_pairs",
    ),
    Mutant(
        "remedies: a template that was not tried is printed",
        "data/remedies.py",
        "if templates and tried(**{",
        "if templates and dict(**{",
        "data/test_columns.py::test_a_remedy_was_tried_on_the_row",
    ),
    Mutant(
        "remedies: one of several options is taken for the document",
        "data/remedies.py",
        "if found and not are_several and many.isdisjoint(texts):",
        "if found:",
        "data/test_columns.py::test_a_remedy_is_no_guess",
    ),
    Mutant(
        "write: the stages share records",
        "data/write.py",
        '"align": train[len(train) - align :]',
        '"align": train[:align]',
        "data/test_write.py::test_stages_share_no_record_unless_they_ask_for_more_than_there_is",
    ),
    Mutant(
        "write: a strict set teaches what is searched",
        "data/write.py",
        'rows["passages"] = rows["corpus"] if is_taught else _each_document_once(table, train[:learn])',
        'rows["passages"] = rows["corpus"]',
        "data/test_write.py::test_stages_share_no_record_unless_they_ask_for_more_than_there_is",
    ),
    Mutant(
        "prepared set: a changed file counts as checked",
        "data/prepared_set.py",
        'return all(name and file_sha256(self.file(name)) == self.about["files"][name]["sha256"] for name in names)',
        "return all(names)",
        "data/test_prepared_set.py::test_a_set_that_was_changed_is_checked_again",
    ),
    Mutant(
        "cleaning: what nobody sees stays",
        "data/cleaning.py",
        'text = unicodedata.normalize("NFC", INVISIBLE.sub("", text))',
        'text = unicodedata.normalize("NFC", text)',
        "data/test_cleaning.py::test_clean",
    ),
    Mutant(
        "mining: a held-out document is a hard negative",
        "data/mining.py",
        'kept = [record for record in corpus if texts.find(record["document"]) is None]',
        "kept = list(corpus)",
        "data/test_mining.py::test_a_set_gets_hard_negatives",
    ),
    Mutant(
        "mining: the answer in other capitals is a hard negative",
        "data/mining.py",
        'texts = {same_text(record["document"], same): record["document"] for record in [*corpus, *records]}',
        'texts = {record["document"]: record["document"] for record in [*corpus, *records]}',
        "data/test_mining.py::test_an_answer_in_other_capitals_is_no_negative",
    ),
    Mutant(
        "mining: a set that is not isolated is kept",
        "data/mining.py",
        'about["overlaps_left"] = overlaps_left(folder, about)',
        'about["overlaps_left"] = count([])',
        "data/test_mining.py::test_a_set_that_is_not_isolated_is_not_kept",
    ),
    # The model: mask, tokens, generation, saving, the file contract.
    Mutant(
        "cut-off hides nothing",
        "model/cutoff.py",
        "return ~(is_target_row & is_source_column)",
        "return ~(is_target_row & is_source_column) | is_target_row",
        "model/test_cutoff.py::test_matrix_written_out",
    ),
    Mutant(
        "cut-off hides BOS too",
        "model/cutoff.py",
        "is_source_column = segments[batch, key] == SOURCE",
        "is_source_column = segments[batch, key] <= SOURCE",
        "model/test_cutoff.py::test_matrix_written_out",
    ),
    Mutant(
        "cut-off hides from Z too",
        "model/cutoff.py",
        "is_target_row = segments[batch, query] == TARGET",
        "is_target_row = segments[batch, query] >= BOTTLENECK",
        "model/test_cutoff.py::test_matrix_written_out",
    ),
    Mutant(
        "cut-off hides Z too",
        "model/cutoff.py",
        "is_source_column = segments[batch, key] == SOURCE",
        "is_source_column = (segments[batch, key] == SOURCE) | (segments[batch, key] == BOTTLENECK)",
        "model/test_cutoff.py::test_matrix_written_out",
    ),
    Mutant(
        "padding is attended to",
        "model/cutoff.py",
        "(config, inputs_embeds, attention_mask, None, and_mask_function=and_masks(*rules))",
        "(config, inputs_embeds, None, None, and_mask_function=and_masks(*rules))",
        "model/test_cutoff.py::test_matrix_written_out",
    ),
    Mutant(
        "packed examples see each other",
        "model/cutoff.py",
        "return sequences[batch, query] == sequences[batch, key]",
        "return sequences[batch, query] >= sequences[batch, key]",
        "model/test_self_checks.py::test_packing_check_lets_these_families_through",
    ),
    Mutant(
        "packing rule is left out",
        "model/cutoff.py",
        "rules = [cutoff_rule(segments)] + ([] if sequences is None else [same_sequence_rule(sequences)])",
        "rules = [cutoff_rule(segments)]",
        "model/test_self_checks.py::test_packing_check_lets_these_families_through",
    ),
    Mutant(
        "any attention takes the mask",
        "model/cutoff.py",
        "if attention not in COMPOSED_ATTENTION:",
        "if attention is None:",
        "model/test_cutoff.py::test_refuses_attention_that_takes_no_mask",
    ),
    Mutant(
        "leak: gradient not looked at",
        "model/self_checks.py",
        "if runs.leaked.any() or not _same(runs.closed[:, Y], runs.closed_other_text[:, Y], scale):",
        "if not _same(runs.closed[:, Y], runs.closed_other_text[:, Y], scale) and runs.leaked.any():",
        "model/test_self_checks.py::test_leak_check_finds_a_path_without_a_gradient",
    ),
    Mutant(
        "leak: another text not looked at",
        "model/self_checks.py",
        "closed_other_text=run(other_text, closed),",
        "closed_other_text=under_closed,",
        "model/test_self_checks.py::test_leak_check_finds_a_path_without_a_gradient",
    ),
    Mutant(
        "leak: nothing passes is fine",
        "model/self_checks.py",
        "if not runs.passed.any():",
        "if runs.passed.isnan().any():",
        "model/test_self_checks.py::test_leak_check_finds_a_mask_that_changes_encoding_or_closes_the_bottleneck",
    ),
    Mutant(
        "leak: reading X is not compared",
        "model/self_checks.py",
        "if not _same(runs.cut_off[:, BEFORE_Y], runs.encoding[:, BEFORE_Y], scale):",
        "if not _same(runs.cut_off[:, BEFORE_Y], runs.cut_off[:, BEFORE_Y], scale):",
        "model/test_self_checks.py::test_leak_check_finds_a_mask_that_changes_encoding_or_closes_the_bottleneck",
    ),
    Mutant(
        "packing check compares nothing",
        "model/self_checks.py",
        "if not _same(found, expected, expected.abs().max()):",
        "if not _same(found, found, expected.abs().max()):",
        "model/test_self_checks.py::test_packing_that_is_not_read_apart_is_refused",
    ),
    Mutant(
        "head: a cap is not looked up",
        "model/self_checks.py",
        "if any(getattr(model.config, name, None) not in (None, 1.0) for name in AFTER_THE_HEAD):",
        "if any(getattr(model.config, name, None) not in (None, 1.0) for name in AFTER_THE_HEAD[1:]):",
        "model/test_self_checks.py::test_a_cap_that_small_logits_do_not_show",
    ),
    Mutant(
        "spaces of a text are not tried",
        "model/tokens.py",
        'text = token.replace(" ", space)',
        "text = token",
        "model/test_tokens.py::test_a_normaliser_that_makes_spaces_is_found_out",
    ),
    Mutant(
        "pairs are not appended to",
        "model/tokens.py",
        'for kind in ("single", "pair"):',
        'for kind in ("single",):',
        "model/test_tokens.py::test_every_text_ends_with_the_tokens",
    ),
    Mutant(
        "EOS stays between X and Z",
        "model/tokens.py",
        "templates[0][kind] = pieces[:end_of_text] + bottleneck",
        "templates[0][kind] = pieces + bottleneck",
        "model/test_tokens.py::test_an_end_of_text_of_the_tokenizer_makes_room",
    ),
    Mutant(
        "new rows are all alike",
        "model/tokens.py",
        "NOISE_SHARE_OF_STD = 0.1",
        "NOISE_SHARE_OF_STD = 0.0",
        "model/test_tokens.py::test_rows",
    ),
    Mutant(
        "spare rows are not used",
        "model/tokens.py",
        "if cast(nn.Embedding, model.get_input_embeddings()).num_embeddings <= ids[-1]:",
        "if ids:",
        "model/test_tokens.py::test_spare_rows_are_used",
    ),
    Mutant(
        "rows drawn from the global generator",
        "model/tokens.py",
        "generator = torch.Generator().manual_seed(0)",
        "generator = torch.default_generator",
        "model/test_tokens.py::test_the_same_backbone_gives_the_same_rows",
    ),
    Mutant(
        "orders for llama.cpp stay",
        "model/tokens.py",
        "config.pop(order, None)",
        "config.get(order)",
        "model/test_tokens.py::test_orders_that_contradict_the_template_are_not_saved",
    ),
    Mutant(
        "the first of the tokens are kept",
        "model/bottleneck.py",
        "return [row[:end] + row[len(row) - k :] for row, end, k in zip(rows, ends, kept, strict=True)]",
        "return [row[: end + k] for row, end, k in zip(rows, ends, kept, strict=True)]",
        "model/test_bottleneck.py::test_number_of_tokens_follows_the_length",
    ),
    Mutant(
        "BOS counts as text",
        "model/bottleneck.py",
        "kept = [min(max(math.ceil((end - prefix) / ratio), 1), most) for end in ends]",
        "kept = [min(max(math.ceil(end / ratio), 1), most) for end in ends]",
        "model/test_bottleneck.py::test_number_of_tokens_follows_the_length",
    ),
    Mutant(
        "an empty text has no token",
        "model/bottleneck.py",
        "kept = [min(max(math.ceil((end - prefix) / ratio), 1), most) for end in ends]",
        "kept = [min(math.ceil((end - prefix) / ratio), most) for end in ends]",
        "model/test_bottleneck.py::test_number_of_tokens_follows_the_length",
    ),
    Mutant(
        "no room for text is fine",
        "model/bottleneck.py",
        "needed = num_prefix_tokens + num_bottleneck_tokens + 1",
        "needed = num_prefix_tokens + num_bottleneck_tokens",
        "model/test_bottleneck.py::test_a_length_without_room_for_text_is_refused",
    ),
    Mutant(
        "padding on the left in training",
        "model/bottleneck.py",
        'self.tokenizer.padding_side = "right"',
        'self.tokenizer.padding_side = "left"',
        "model/test_tokens.py::test_padding_is_on_the_right_and_never_a_bottleneck_token",
    ),
    Mutant(
        "bottleneck tokens are answers",
        "model/bottleneck.py",
        "model.generation_config.suppress_tokens = [*(model.generation_config.suppress_tokens or []), *ids]",
        "model.generation_config.suppress_tokens = model.generation_config.suppress_tokens",
        "model/test_generation.py::test_a_bottleneck_token_is_no_answer",
    ),
    Mutant(
        "the text is not hidden",
        "model/generation.py",
        "mask[:, :prompt_length][hidden_in_row] = 0",
        "mask[:, :prompt_length][hidden_in_row] = 1",
        "model/test_generation.py::test_the_cache_is_read_by_both_of_its_names",
    ),
    Mutant(
        "the bottleneck is hidden too",
        "model/bottleneck.py",
        "return ~(is_bottleneck | is_prefix)",
        "return ~is_prefix",
        "model/test_generation.py::test_through_the_bottleneck_is_what_stage_1_trains",
    ),
    Mutant(
        "BOS is hidden too",
        "model/bottleneck.py",
        "return ~(is_bottleneck | is_prefix)",
        "return ~is_bottleneck",
        "model/test_generation.py::test_through_the_bottleneck_is_what_stage_1_trains",
    ),
    Mutant(
        "beams of one row are mixed up",
        "model/generation.py",
        "hidden_in_row = hidden.repeat_interleave(len(new) // len(hidden), dim=0)  # beams lie side by side",
        "hidden_in_row = hidden.repeat(len(new) // len(hidden), 1)",
        "model/test_generation.py::test_the_cache_is_read_by_both_of_its_names",
    ),
    Mutant(
        "the old name of the cache alone",
        "model/generation.py",
        'cache = kwargs.get("cache", kwargs.get("past_key_values"))',
        'cache = kwargs.get("past_key_values")',
        "model/test_generation.py::test_the_cache_is_read_by_both_of_its_names",
    ),
    Mutant(
        "the new name of the cache alone",
        "model/generation.py",
        'cache = kwargs.get("cache", kwargs.get("past_key_values"))',
        'cache = kwargs.get("cache")',
        "model/test_generation.py::test_the_cache_is_read_by_both_of_its_names",
    ),
    Mutant(
        "an assistant sees the text",
        "model/generation.py",
        "if seen < prompt_length < seen + new.shape[1]:",
        "if False:",
        "model/test_generation.py::test_refuses_what_nothing_can_be_hidden_in",
    ),
    Mutant(
        "generation trains",
        "model/bottleneck.py",
        "with evaluating(self), hiding:",
        "with hiding:",
        "model/test_bottleneck.py::test_generation_leaves_every_part_in_its_mode",
    ),
    Mutant(
        "the hook stays",
        "model/generation.py",
        "handle.remove()",
        "pass",
        "model/test_generation.py::test_the_model_is_left_as_it_was",
    ),
    Mutant(
        "a pooling in any order",
        "model/contract.py",
        'if first_true != "pooling_mode_lasttoken":',
        "if first_true is None:",
        "model/test_verify.py::test_damage_is_refused_with_file_and_reason",
    ),
    Mutant(
        "template of pairs is not checked",
        "model/contract.py",
        'for kind in ("single", "pair"):',
        'for kind in ("single",):',
        "model/test_verify.py::test_damage_is_refused_with_file_and_reason",
    ),
    Mutant(
        "a token between text and Z is fine",
        "model/contract.py",
        'if "Sequence" not in before:',
        "if before is None:",
        "model/test_verify.py::test_damage_is_refused_with_file_and_reason",
    ),
    Mutant(
        "spellable tokens are fine on disk",
        "model/contract.py",
        "refuse_spellable(tokenizer, [bottleneck_token(index) for index in range(len(files.ids))])",
        "refuse_spellable(tokenizer, [])",
        "model/test_verify.py::test_damage_is_refused_with_file_and_reason",
    ),
    Mutant(
        "weights: what is missing may be drawn at random",
        "model/weights.py",
        'missing = sorted({*loading["missing_keys"]} - {*unused})',
        "missing = []",
        "model/test_weights.py::test_tensors_that_would_be_drawn_at_random",
    ),
    Mutant(
        "weights: of an embedding model anything may be missing",
        "model/weights.py",
        "_without_effect(model, part, drawn) if drawn else ()",
        "[*drawn]",
        "model/test_weights.py::test_an_embedding_model_lacks_what_its_vectors_depend_on",
    ),
    Mutant(
        "weights: NaN is a number",
        "model/weights.py",
        "if not weight.detach().sum(dtype=torch.float32).isfinite()",
        "if False",
        "model/test_weights.py::test_numbers_that_are_none",
    ),
    Mutant(
        "weights: integers are taken for numbers",
        "model/weights.py",
        "return of_a_layer and tensor.dtype not in FLOATS",
        "return of_a_layer and not tensor.dtype",
        "model/test_weights.py::test_weights_that_are_integers_or_scaled",
    ),
    Mutant(
        "bidirectional is fine",
        "model/contract.py",
        'if config.get("is_causal") is not True:',
        'if config.get("is_causal") is None:',
        "model/test_verify.py::test_damage_is_refused_with_file_and_reason",
    ),
    Mutant(
        "stray weights are fine",
        "model/contract.py",
        "if stray:",
        "if stray and weight_map:",
        "model/test_verify.py::test_damage_is_refused_with_file_and_reason",
    ),
    Mutant(
        "reference: hashes are not compared",
        "model/verify.py",
        "if file_sha256(self.files.path / name) != hash_:",
        "if not hash_:",
        "model/test_verify.py::test_one_changed_number_in_the_weights_is_found",
    ),
    Mutant(
        "reference: vectors are not compared",
        "model/verify.py",
        "difference = ((torch.tensor(vector) - expected).norm() / expected.norm()).item()",
        "difference = 0.0 * expected.norm().item()",
        "model/test_verify.py::test_an_edit_that_every_loader_follows_is_found",
    ),
    Mutant(
        "weights of memory are not compared",
        "model/verify.py",
        "if there.shape != tensor.shape or not ((tensor == there) | (tensor.isnan() & there.isnan())).all():",
        "if there.shape != tensor.shape:",
        "model/test_saving.py::test_a_changed_weight_that_no_text_shows_is_refused",
    ),
    Mutant(
        "vectors of memory are not compared",
        "model/verify.py",
        'yield "in memory", self.check_in_memory',
        "pass",
        "model/test_verify.py::test_a_model_other_than_the_one_in_memory_is_found",
    ),
    Mutant(
        "missing tensors are fine",
        "model/verify.py",
        'for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):',
        'for problem in ("unexpected_keys", "mismatched_keys"):',
        "model/test_verify.py::test_a_lost_tensor_is_found_though_loading_only_warns",
    ),
    Mutant(
        "lengths of vectors are not checked",
        "model/verify.py",
        "if abs(vector.norm().item() - 1) > self.tolerance:",
        "if abs(vector.norm().item() - 1) > 10:",
        "model/test_verify.py::test_vectors_of_another_length_are_found",
    ),
    Mutant(
        "padding on the left is not tried",
        "model/verify.py",
        'sides = ["right"] if self.has_absolute_positions() else ["right", "left"]',
        'sides = ["right"]',
        "model/test_verify.py::test_vectors_that_depend_on_the_padding_are_found",
    ),
    Mutant(
        "the end of a text is not looked at",
        "model/verify.py",
        "if row[prefix + text_length :] != expected:",
        "if not row:",
        "model/test_verify.py::test_a_tokenizer_that_moves_the_read_out_is_found",
    ),
    Mutant(
        "the save is not verified",
        "model/saving.py",
        "for line in verify(folder, in_memory=model, device=str(model.device)):",
        "for line in ():",
        "model/test_saving.py::test_a_save_that_differs_is_refused",
    ),
    Mutant(
        "a damaged directory is loaded",
        "model/saving.py",
        "check_files(model_name_or_path)",
        "pass",
        "model/test_verify.py::test_damage_is_refused_with_file_and_reason",
    ),
    Mutant(
        "weights of others are mixed in",
        "model/saving.py",
        "if foreign:",
        "if not foreign and False:",
        "model/test_saving.py::test_a_directory_with_other_weights_is_left_alone",
    ),
    Mutant(
        "old shards stay",
        "model/saving.py",
        '"model*.safetensors*",',
        "",
        "model/test_saving.py::test_a_save_over_a_sharded_one_leaves_no_old_weights",
    ),
    Mutant(
        "the old layout stays",
        "model/saving.py",
        '"chat_template.jinja",',
        "",
        "model/test_saving.py::test_a_save_over_another_layout_leaves_nothing_of_it",
    ),
    Mutant(
        "config.json is moved early",
        "files.py",
        "for file in sorted(files, key=lambda file: (file == Path(last), file)):",
        "for file in sorted(files):",
        "model/test_saving.py::test_an_interrupted_save_is_not_a_model",
    ),
    Mutant(
        "prompts are lost in a save",
        "model/saving.py",
        '"prompts": model.prompts,',
        '"prompts": {"query": "", "document": ""},',
        "model/test_saving.py::test_portable_files",
    ),
    Mutant(
        "saved in training mode",
        "model/precision.py",
        "module.training = was_training",
        "module.training = False",
        "model/test_saving.py::test_a_save_leaves_the_mode_of_the_model",
    ),
    Mutant(
        "the native layout names a file",
        "model/bottleneck.py",
        '__module__ = "lbr_st"',
        "",
        "model/test_saving.py::test_the_native_layout_names_the_public_class",
    ),
    Mutant(
        "saved numbers may be contradicted",
        "model/opening.py",
        "if asked_for not in (None, has):",
        "if asked_for is has and has is None and False:",
        "model/test_opening.py::test_other_numbers_than_the_saved_ones_are_refused",
    ),
    Mutant(
        "a card by hand is overwritten",
        "model/card.py",
        'return file.is_file() and MARK not in file.read_text(encoding="utf-8")',
        'return file.is_file() and not file.read_text(encoding="utf-8")',
        "model/test_card.py::test_a_card_by_hand_is_left_alone",
    ),
    # What the campaign of faults found.
    Mutant(
        "kills: a finished folder keeps the copy of its corpus",
        "use/shards.py",
        "shutil.rmtree(self.folder / TEXTS, ignore_errors=True)\n        self.finished = True\n        self._write()",
        "self.finished = True\n        self._write()\n        shutil.rmtree(self.folder / TEXTS)",
        "use/test_encode.py::test_a_run_killed_at_its_very_end_leaves_no_texts",
    ),
    Mutant(
        "kills: what a tokenizer read last is saved with it",
        "model/tokens.py",
        "tokenizer.backend_tokenizer.no_truncation()",
        "tokenizer.backend_tokenizer.no_padding()",
        "model/test_saving.py::test_the_same_model_gives_the_same_bytes_whatever_it_has_read",
    ),
    Mutant(
        "kills: a model is one before it has its card",
        "model/saving.py",
        "model_card.write(folder, path.resolve().name)",
        "assert folder",
        "model/test_saving.py::test_a_model_has_its_card_before_it_is_one",
    ),
    Mutant(
        "full disk: a run that was not written down is another's",
        "training/resume.py",
        "return State.BEGUN if is_begun else State.ANOTHER",
        "return State.ANOTHER",
        "training/test_resume.py::test_a_run_that_ended_before_it_was_written_down_is_begun_anew",
    ),
    Mutant(
        "damages: verify knows the weights alone",
        "model/verify.py",
        "for file in loaded_files(folder)}",
        'for file in folder.glob("*.safetensors")}',
        "model/test_verify.py::test_a_change_that_no_vector_of_the_checks_shows_is_found",
    ),
    Mutant(
        "damages: files beside the tokenizer are passed over",
        "model/verify.py",
        "for name in sorted(BESIDE_THE_TOKENIZER - saved.keys()):",
        "for name in ():",
        "model/test_verify.py::test_a_file_beside_the_tokenizer_is_found",
    ),
    # A run looked at before it is started.
    Mutant(
        "trial: the weights of before are not put back",
        "training/trial.py",
        "weight.copy_(before)",
        "weight.copy_(weight)",
        "training/test_trial.py::test_the_sane_rate_of_three",
    ),
    Mutant(
        "trial: each try has an order of its own",
        "training/trial.py",
        "set_seed(trainer.args.seed)  # as",
        "# as",
        "training/test_trial.py::test_a_try_is_a_short_run",
    ),
    Mutant(
        "trial: the memory is that of the shortest batch",
        "training/trial.py",
        "longest = [max(range(len(sizes))",
        "longest = [min(range(len(sizes))",
        "training/test_trial.py::test_steps_are_those_of_training",
    ),
    Mutant(
        "trial: the first steps are timed",
        "training/trial.py",
        "itertools.pairwise(clock.times)][-timed_steps:]",
        "itertools.pairwise(clock.times)]",
        "training/test_trial.py::test_steps_are_those_of_training",
    ),
    Mutant(
        "trial: it writes where the run would",
        "training/trial.py",
        "arguments.output_dir = folder",
        "assert folder",
        "training/test_trial.py::test_nothing_is_left",
    ),
    Mutant(
        "trial: a run that is looked at is another one",
        "training/describe.py",
        'HOW_IT_IS_STARTED = {"output_dir", "resume", "dry_run", "find_rate"}',
        'HOW_IT_IS_STARTED = {"output_dir", "resume", "find_rate"}',
        "training/test_trial.py::test_a_finished_run_takes_nothing",
    ),
    # Queries that are written.
    Mutant(
        "queries: bottleneck tokens stand in a prompt",
        "adaptation/writers.py",
        'return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]',
        'return self.tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"]',
        "adaptation/test_writers.py::test_a_chat_model_is_asked_without_bottleneck_tokens",
    ),
    Mutant(
        "queries: what is drawn depends on the place in a batch",
        "adaptation/writers.py",
        "self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]",
        "self.generators = [torch.Generator().manual_seed(place) for place, _ in enumerate(seeds)]",
        "adaptation/test_writers.py::test_what_is_drawn_depends_on_no_other_query",
    ),
    Mutant(
        "queries: a torn line stays, and the next answer is written behind it",
        "adaptation/answers.py",
        "self._file.truncate(self._whole)",
        "self._file.flush()",
        "adaptation/test_answers.py::test_a_torn_last_line_goes",
    ),
    Mutant(
        "queries: a passage that is held out is asked about",
        "adaptation/passages.py",
        'if held_out.find(record["document"]) is not None:',
        "if not held_out:",
        "adaptation/test_passages.py::test_no_passage_of_a_set_is_held_out",
    ),
    Mutant(
        "queries: a redirect is followed",
        "adaptation/endpoint.py",
        "self._opener = urllib.request.build_opener(_NoRedirect)",
        "self._opener = urllib.request.build_opener()",
        "adaptation/test_endpoint.py::test_a_key_goes_to_no_other_server",
    ),
]


def start(mutant: Mutant | None, tests: str, folder: Path) -> int:
    """Run tests on a copy of the package, changed or not, in a fork of this process; return its id.

    What takes seconds to import is imported once, before.
    """
    package = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(ROOT / "lbr_st", package / "lbr_st", ignore=shutil.ignore_patterns("__pycache__"))
    if mutant is not None:
        file = package / "lbr_st" / mutant.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutant.line, mutant.change), encoding="utf-8")
    process = os.fork()
    if process:
        return process
    os.environ["PYTHONPATH"] = str(package)  # for processes that tests start
    sys.path.insert(0, str(package))
    with open(package / "output.txt", "w", encoding="utf-8") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(package / "tmp")]
    code = pytest.main([*options, *(str(ROOT / "tests" / test) for test in tests.split())])
    os._exit(int(code))


def why_alive(mutant: Mutant, code: int) -> str | None:
    """Return why a mutant was not killed, or None."""
    times = (ROOT / "lbr_st" / mutant.file).read_text(encoding="utf-8").count(mutant.line)
    if times != 1:
        return f"its line is there {times} times"
    return None if code == pytest.ExitCode.TESTS_FAILED else f"pytest ended with {code}"


def main(words: Sequence[str]) -> int:
    """Run the mutants, and say of each what became of it; return the number of those that live."""
    for module in ("datasets", "mteb", "peft", "sentence_transformers", "torch", "transformers"):
        importlib.import_module(module)
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    begun = time.perf_counter()
    alive = 0
    with tempfile.TemporaryDirectory() as folder:
        tests = " ".join(dict.fromkeys(test for mutant in chosen for test in mutant.tests.split()))
        unchanged = start(None, tests, Path(folder))
        if code := os.waitstatus_to_exitcode(os.waitpid(unchanged, 0)[1]):
            for output in Path(folder).glob("*/output.txt"):
                sys.stdout.write(output.read_text(encoding="utf-8")[-3000:])
            sys.stdout.write(f"\nthe tests end with {code} without any change\n")
            return 1
        waiting = list(reversed(chosen))
        running: dict[int, Mutant] = {}
        while waiting or running:
            while waiting and len(running) < WORKERS:
                mutant = waiting.pop()
                running[start(mutant, mutant.tests, Path(folder))] = mutant
            process, status = os.wait()
            mutant = running.pop(process)
            why = why_alive(mutant, os.waitstatus_to_exitcode(status))
            alive += why is not None
            sys.stdout.write(f"{'killed' if why is None else 'ALIVE '}  {mutant.name}{f': {why}' if why else ''}\n")
            sys.stdout.flush()
    seconds = time.perf_counter() - begun
    sys.stdout.write(f"{len(chosen) - alive} of {len(chosen)} mutants killed in {seconds:.0f} s\n")
    return alive


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
