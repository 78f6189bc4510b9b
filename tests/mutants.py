"""Small changes of the code, each of which must turn a test red: ``make test-mutants``.

A contract that no test notices the loss of is not held by the tests. Each change is made in a copy of the package, and
the tests named beside it are run on that copy; at least one must fail. They are run on the unchanged copy first.

    python tests/mutants.py              # all, two at a time
    python tests/mutants.py leak resume  # those with one of these words in their name
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
WORKERS = 2
FAILED, PASSED = 1, 0  # pytest's exit codes


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
    # Stage 1: examples, loss, batches, what is logged.
    Mutant(
        "examples: the prompt is left out of X",
        "learning/examples.py",
        "for ids in module.tokenize_rows([prompt + text for text in sources]):",
        "for ids in module.tokenize_rows(sources):",
        "learning/test_examples.py::test_sft_example_written_out",
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
        'return {"loss": total / (counts.sum() if num_items_in_batch is None else num_items_in_batch)}',
        'return {"loss": total / len(counts)}',
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
        "is_read_out = (segments[:, :-1] == BOTTLENECK) & (segments[:, 1:] == TARGET)",
        "is_read_out = (segments[:, :-1] == BOTTLENECK) & (segments[:, 1:] == BOTTLENECK)",
        "learning/test_masked_model.py",
    ),
    Mutant(
        "loss: the mask is left out of training",
        "learning/masked_model.py",
        "if self.bottleneck or sequences is not None:",
        "if sequences is not None:",
        "learning/test_masked_model.py",
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
        "alignment/test_run.py::test_killed_run_resumes_to_the_same_weights "
        "learning/test_run.py::test_run_over_strata_resumes_to_the_same_weights",
    ),
    Mutant(
        "resume: the data are no part of the run",
        "training/describe.py",
        '"data_sha256": data_sha256(data),',
        '"data_sha256": "",',
        "cli/test_main.py::test_resume_refuses_other_data",
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
        "publish",
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
        'if known[same_text(record["query"])].isdisjoint(map(same_text, record["negatives"]))',
        "if True",
        "alignment/test_batches.py",
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
        "require_empty(folder)",
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
    # Data, model and use: see the engineers' lists below.
]


def run_tests(package: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests on a copy of the package."""
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    files = [str(ROOT / "tests" / test) for test in tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *files]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)


def copy_of_package(folder: str) -> Path:
    """Copy the package into a folder, which Python then finds first."""
    shutil.copytree(ROOT / "lbr_st", Path(folder, "lbr_st"), ignore=shutil.ignore_patterns("__pycache__"))
    return Path(folder)


def outcome(mutant: Mutant) -> str | None:
    """Return why a mutant was not killed, or None."""
    source = (ROOT / "lbr_st" / mutant.file).read_text(encoding="utf-8")
    if source.count(mutant.line) != 1:
        return f"its line is there {source.count(mutant.line)} times"
    with tempfile.TemporaryDirectory() as folder:
        package = copy_of_package(folder)
        (package / "lbr_st" / mutant.file).write_text(source.replace(mutant.line, mutant.change), encoding="utf-8")
        run = run_tests(package, mutant.tests)
    if run.returncode == FAILED:
        return None
    last = (run.stdout.strip() or run.stderr.strip()).splitlines()[-1:]
    return f"pytest ended with {run.returncode}: {' '.join(last)}"


def main(words: Sequence[str]) -> int:
    """Run the mutants, and say of each what became of it; return the number of those that live."""
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tests = " ".join(dict.fromkeys(test for mutant in chosen for test in mutant.tests.split()))
        unchanged = run_tests(copy_of_package(folder), tests)
    if unchanged.returncode != PASSED:
        sys.stdout.write(f"{unchanged.stdout[-3000:]}\nthe tests fail without any change\n")
        return 1
    alive = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for mutant, why in zip(chosen, pool.map(outcome, chosen), strict=True):
            alive += why is not None
            sys.stdout.write(f"{'killed' if why is None else 'ALIVE '}  {mutant.name}{f': {why}' if why else ''}\n")
            sys.stdout.flush()
    seconds = time.perf_counter() - start
    sys.stdout.write(f"{len(chosen) - alive} of {len(chosen)} mutants killed in {seconds:.0f} s\n")
    return alive


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
