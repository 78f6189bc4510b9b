"""Turn what was measured into docs/results.md, and what people would rather see than read into pictures.

    python benchmarks/report.py

The words are in ``report.md``, beside this file; every number, table and picture in it is put in from the summaries in
``results``: ``{{thesis:NAME}}`` is a figure of a program, ``{{table:NAME}}`` one of the tables below. A program whose
summary is not there leaves "not measured yet". ``{{picture:NAME}}`` is that of a program, ``{{hours:evidence}}`` what
all of `EVIDENCE` took.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import adapt
import arms
import domains
import explore
import figure3
import learning_rates
import matplotlib.figure
import objectives
import rate
import results
import table1
import table2
import table3
import table5
import table6
import thesis
from flags import program_parser

from lbr_st.cli.main import run_command
from lbr_st.errors import InputError
from lbr_st.files import write_text

TEMPLATE = Path(__file__).with_name("report.md")
PLACEHOLDER = re.compile(r"\{\{(\w+):([\w.-]+)\}\}")
NOT_YET = "not measured yet"
EVIDENCE = ("thesis", "explore", "rate", "best_model", *(f"table{number}" for number in range(1, 7)), "figure3")
# The variants of `objectives.py`, as a reader calls them.
OBJECTIVES = {
    "tokens": "**the default: the paper's loss and the read-out of Y's tokens**",
    "paper": "the paper's loss alone",
    "set": "read-out of the set of Y's tokens",
    "content": "read-out of that set without frequent tokens",
    "idf": "read-out of that set, weighted by inverse document frequency",
    "falling": "the read-out's weight falls",
    "soft": "what the model predicts with X in sight, in place of tokens",
    "soft-paper": "what the model predicts with X in sight, no read-out",
    "state": "Y decoded from Z's last state alone, no read-out",
    "state-read-out": "Y decoded from Z's last state alone",
    "two-sided": "a quarter from document to query",
    "no-cut-off": "control: no cut-off",
    "gl": "control: plain fine-tuning, and a read-out at the end",
    "pt": "control: plain pretraining, and a read-out at the end",
}
# What a reader calls an arm.
NAMES = {
    "bm25": "BM25",
    "bm25_trigrams": "BM25 over trigrams of characters",
    "llm": "the backbone",
    "gl": "+ plain fine-tuning (GL)",
    "pt": "+ plain pretraining",
    "ibgl_paper": "+ IB-GL, the paper's loss",
    "ibgl": "+ IB-GL, with the read-out loss",
    "ibgl-sft": "+ IB-GL, SFT-style",
    "ibgl-reconstruct": "+ IB-GL, reconstruction",
    "ibgl-prefix-suffix": "+ IB-GL, prefix to suffix",
    "ibgl-mixture": "+ IB-GL, half SFT-style, half reconstruction",
    "ibgl-read-out": "+ IB-GL, the same with the read-out loss",
    "no-cut-off": "+ the same without the cut-off",
    "none": "no stage 1",
    "cl": "+ CL",
    "gl_cl": "+ GL + CL",
    "ibgl_paper_cl": "+ IB-GL, the paper's loss, + CL",
    "ibgl_cl": "+ IB-GL, with the read-out loss, + CL",
    "bidirectional_cl": "bidirectional (as LLM2Vec) + CL",
    "minilm": "all-MiniLM-L6-v2, as it is",
    "minilm_cl": "all-MiniLM-L6-v2 + CL",
}
# What a reader calls an arm of the adaptation.
ADAPTED = {
    "bm25": "BM25",
    "start": "the start: SmolLM2-135M, the mean of its states",
    "none": "adapted without a pair",
    "none_fused": "adapted without a pair, with BM25",
    "200": "adapted with 200 pairs",
    "200_fused": "adapted with 200 pairs, with BM25",
    "200_teacher": "adapted with 200 pairs and a teacher",
    "200_teacher_fused": "adapted with 200 pairs and a teacher, with BM25",
    "teacher": "the teacher: all-MiniLM-L6-v2, as it is",
}
# What a reader calls a figure of the server, its decimals, and what it is to be.
SERVED = {
    "throughput_vs_one_by_one": ("texts a second of 32 clients, over those of one: 15 queries to 1 passage", 2, ">= 3"),
    "throughput_vs_one_by_one_queries": ("the same with queries alone", 2, ""),
    "throughput_vs_one_by_one_passages": ("the same with passages alone", 2, ""),
    "throughput_vs_encode": ("texts a second of 32 clients, over `model.encode` one by one", 2, ""),
    "texts_per_second": ("texts a second of 32 clients", 1, ""),
    "p50_ms": ("median milliseconds of a request of 32 clients", 0, ""),
    "p99_over_p50": ("slowest of a hundred requests over the median", 2, "<= 4"),
    "requests_lost": ("requests lost or answered wrongly", 0, "0"),
    "requests": ("of so many requests", 0, ""),
    "memory_growth_ratio": ("memory at the end of 10 minutes, over that of the second", 3, "<= 1.05"),
    "memory_mib": ("MiB at the end", 0, ""),
    "soak_requests_lost": ("requests lost in the 10 minutes", 0, "0"),
    "unexpected_status": ("answers to hostile requests that are not as they must be", 0, "0"),
    "hostile_requests": ("of so many hostile requests", 0, ""),
    "answers_cut": ("answers cut by SIGTERM under load", 0, "0"),
    "answers_in_flight_at_stop": ("of so many that were waited for then", 0, ""),
    "search_p50_ms_over_numpy": ("median time of `/search`, over encoding the query and numpy", 2, "<= 1.2"),
    "search_p50_ms": ("milliseconds of `/search`", 1, ""),
    "search_passages": ("over so many passages", 0, ""),
}
# What a reader calls a figure of encoding, its decimals, and what it is to be.
ENCODED = {
    "throughput_vs_stock_mixed": ("texts of both kinds, over `encode` of sentence-transformers", 2, ">= 1.25"),
    "throughput_vs_stock_passages": ("passages, over the same", 2, ">= 1.2"),
    "throughput_vs_stock_queries": ("queries, over the same", 2, ">= 1.25"),
    "throughput_prompt64_vs_stock": ("queries with an instruction of 64 tokens, over the same", 2, ">= 2.5"),
    "throughput_vs_default_mixed": ("texts of both kinds, over `encode` in float32 at batch 32", 2, ">= 3"),
    "share_of_matmul_rate_passages": ("share of the rate of the matrix products alone, passages", 2, ">= 0.65"),
    "matmul_gflops": ("GFLOP/s of the matrix products alone", 0, ""),
    "least_cosine_bf16": ("least cosine of 100 texts in bf16 and in float32", 4, ">= 0.999"),
    "speed_bf16_over_float32": ("bf16 over float32, both ours", 2, ""),
    "tokens_per_second_mixed": ("tokens a second, texts of both kinds", 0, ""),
    "tokens_per_second_passages": ("tokens a second, passages", 0, ""),
    "tokens_per_second_queries": ("tokens a second, queries", 0, ""),
    "share_of_padding_passages": ("share of our tokens that is padding, passages", 3, ""),
    "share_of_padding_stock_passages": ("the same of `encode`", 3, ""),
    "batch_size_stock_passages": ("best batch size of `encode`, passages", 0, ""),
    "batch_tokens_passages": ("tokens of a batch of ours, passages", 0, ""),
    "share_of_matrix_products": ("share of the time: matrix products", 3, ""),
    "share_of_attention": ("attention", 3, ""),
    "share_of_norms_and_other": ("norms and all other operations", 3, ""),
    "share_of_python": ("Python, and waiting", 3, ""),
    "share_of_tokenizer_beside": ("the tokenizer, beside the model", 3, ""),
}
ENCODED_BY = {"SmolLM2-135M": "", "Qwen2.5-0.5B": "_0_5b"}  # shape: end of its figures' names
# What a reader calls a variation of stage 1.
EXPLORED = {
    "gl": "plain fine-tuning",
    "ibgl-mixture": "IB-GL, half SFT-style, half reconstruction: the mixture",
    "read-out": "the mixture with the read-out loss",
    "no-cut-off-read-out": "the mixture, read-out loss, without the cut-off",
    "sft-read-out": "SFT-style with the read-out loss",
    "reconstruct-read-out": "reconstruction with the read-out loss",
    "read-out-3": "the mixture, read-out loss of weight 3",
    "read-out-0.3": "the mixture, read-out loss of weight 0.3",
    "rate-1e-3-read-out": "the mixture, read-out loss, learning rate 1e-3",
    "rate-1e-3-gl": "plain fine-tuning, learning rate 1e-3",
}


def summary(program: str) -> dict[str, Any] | None:
    """Return what a program measured, or None."""
    file = results.RESULTS / program / "summary.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def figure_of(program: str, name: str) -> str:
    """Return a figure as text.

    Raises:
        InputError: If the program measured no such figure.
    """
    found = summary(program)
    if found is None:
        return NOT_YET
    if name not in found["figures"]:
        raise InputError(f"{TEMPLATE.name}: {program} has no figure {name}")
    value = found["figures"][name]
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def hours() -> str:
    """Return how many hours of one core the arms of `EVIDENCE` took, by processor."""
    minutes: Counter[str] = Counter()
    for program in EVIDENCE:
        for file in (results.RESULTS / program).glob("*-seed*.json"):
            found = json.loads(file.read_text(encoding="utf-8"))
            took = found.get("minutes", 0)  # none where nothing was trained
            minutes[found["hardware"].partition(",")[0]] += sum(took.values()) if isinstance(took, dict) else took
    return " and ".join(f"{total / 60:.1f} on {processor}" for processor, total in sorted(minutes.items()))


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay a table out."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_interval(figures: dict[str, float], key: str) -> str:
    """Return a difference in points, with its interval."""
    value, low, high = (100 * figures[key + end] for end in ("", "_low", "_high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def sceptic(figures: dict[str, float]) -> str:
    """What IB-GL + CL finds more than others do, in points of recall@10, with intervals."""
    rows = []
    for name in thesis.DOMAINS:
        for regime in domains.REGIMES:
            end = f"recall_at_10_full_{thesis.MAIN_PAIRS}" + ("_strict" if regime == "strict" else "")
            ours = figures[f"{name}_ibgl_cl_{end}"]
            others = ("cl", "gl_cl", "pt_cl", *thesis.LEXICAL)
            differences = [with_interval(figures, f"{name}_ibgl_cl_less_{other}_{end}") for other in others]
            rows.append([name, regime, f"{ours:.3f}", *differences])
    head = ["less CL alone", "less GL + CL", "less pretraining + CL", "less BM25", "less BM25 over trigrams"]
    return markdown(["domain", "stage 1 saw", "IB-GL + CL", *head], rows)


def of_default(pairs: int) -> Callable[[dict[str, float]], str]:
    """What the package's default finds more than others do, corpus-taught, after stage 2 on so many pairs."""

    def table(figures: dict[str, float]) -> str:
        others = {thesis.label_of(stage1): stage1 for stage1 in (thesis.NONE, "pt", "gl", "ibgl-mixture", "no-cut-off")}
        others |= {system: system for system in thesis.LEXICAL}
        ours = thesis.label_of(thesis.DEFAULT)
        rows = []
        for label, other in others.items():
            keys = [f"{name}_{ours}_less_{label}_recall_at_10_full_{pairs}" for name in thesis.DOMAINS]
            rows.append([NAMES[other].removeprefix("+ "), *(with_interval(figures, key) for key in keys)])
        return markdown([f"less, with {pairs:,} pairs", *thesis.DOMAINS], rows)

    return table


def thesis_table(domain: str, regime: str) -> Callable[[dict[str, float]], str]:
    """All arms of a domain and regime by the number of pairs."""
    end = "_strict" if regime == "strict" else ""

    def table(figures: dict[str, float]) -> str:
        kinds = ("trivial", "systematic") if domain == "chemistry" else ()
        rows = []
        for system in thesis.LEXICAL:
            key = f"{domain}_{system}_recall_at_10_full"
            cells = [
                NAMES[system],
                *[f"{figures[key]:.3f}"] * 3,
                "",
                f"{figures[f'{domain}_{system}_ndcg_at_10_full']:.3f}",
            ]
            rows.append(cells + [f"{figures[f'{key}_{kind}']:.3f}" for kind in kinds])
        for stage1 in arms.STAGE1:
            label = thesis.label_of(stage1)
            cells = [NAMES[stage1] if stage1 == thesis.NONE else f"{NAMES[stage1]}".removeprefix("+ ")]
            for pairs in (thesis.FEW_PAIRS, thesis.MAIN_PAIRS, thesis.MANY_PAIRS):
                is_measured = thesis.seeds_of(thesis.Arm(domain, regime, stage1, pairs))
                key = f"{domain}_{label}_recall_at_10_full_{pairs}{end}"
                cells.append(f"{figures[key]:.3f}" if is_measured else "")
            of_main = f"{thesis.MAIN_PAIRS}{end}"
            low, high = (figures[f"{domain}_{label}_recall_at_10_full_{of_main}_{each}"] for each in ("min", "max"))
            cells += [f"{low:.3f} to {high:.3f}", f"{figures[f'{domain}_{label}_ndcg_at_10_full_{of_main}']:.3f}"]
            cells += [f"{figures[f'{domain}_{label}_recall_at_10_full_{of_main}_{kind}']:.3f}" for kind in kinds]
            rows.append(cells)
        head = ["stage 1", *(f"{n:,} pairs" for n in (thesis.FEW_PAIRS, thesis.MAIN_PAIRS, thesis.MANY_PAIRS))]
        head += [f"seeds, {thesis.MAIN_PAIRS:,} pairs", "nDCG@10", *(f"{kind} names" for kind in kinds)]
        return markdown(head, rows)

    return table


def of_table1(figures: dict[str, float]) -> str:
    """Systems by domain."""
    rows = []
    for system in table1.systems_of(domains.DOMAINS[0]):
        cells = [NAMES[system]]
        for name in domains.DOMAINS:
            for metric in ("recall_at_10_test", "recall_at_10_full", "ndcg_at_10_full"):
                is_there = system in table1.systems_of(name)
                cells.append(f"{figures[f'{name}_{system}_{metric}']:.3f}" if is_there else "-")
        rows.append(cells)
    head = ["", *(f"{name}, {what}" for name in domains.DOMAINS for what in ("R@10 test", "R@10 full", "N@10 full"))]
    return markdown(head, rows)


def of_comparison(figures: dict[str, float]) -> str:
    """What IB-GL with the read-out loss and stage 2 finds more than other systems."""
    rows = []
    for other in table1.COMPARED:
        cells = [NAMES[other].removeprefix("+ ")]
        for name in domains.DOMAINS:
            is_there = other in table1.systems_of(name)
            cells.append(with_interval(figures, f"{name}_ibgl_cl_less_{other}_recall_at_10_full") if is_there else "-")
        rows.append(cells)
    return markdown(["less", *domains.DOMAINS], rows)


def of_table2(figures: dict[str, float]) -> str:
    """What a language model says, and what its embeddings find."""
    rows = []
    for name in thesis.DOMAINS:
        for model in table2.MODELS:
            cells = [name, NAMES[model]]
            for metric in ("bleu_4_open", "rouge_l_open", "bleu_4_bottleneck", "rouge_l_bottleneck"):
                value = figures.get(f"{name}_{model}_{metric}")
                cells.append("" if value is None else f"{value:.1f}")
            rows.append([*cells, f"{figures[f'{name}_{model}_recall_at_10_full_after_stage_2']:.3f}"])
    head = ["domain", "model", "BLEU-4, open", "ROUGE-L, open", "BLEU-4, bottleneck", "ROUGE-L, bottleneck"]
    return markdown([*head, "R@10 full after stage 2"], rows)


def of_table3(figures: dict[str, float]) -> str:
    """What each stage adds."""
    rows = []
    for arm in (*table1.WITHOUT_STAGE2, *table1.AFTER_STAGE2):
        cells = [NAMES[arm]]
        for name in thesis.DOMAINS:
            key = f"{name}_{arm}_recall_at_10"
            for corpus in ("test", "full"):
                value, low, high = (figures[f"{key}_{corpus}{end}"] for end in ("", "_min", "_max"))
                cells.append(f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if low != high else ""))
        rows.append(cells)
    for one, other in table3.COMPARISONS:
        cells = [f"{NAMES[one]} less {NAMES[other]}".replace("+ ", "", 1)]
        for name in thesis.DOMAINS:
            cells += ["", with_interval(figures, f"{name}_{one}_less_{other}_recall_at_10_full")]
        rows.append(cells)
    return markdown(["", *(f"{name}, R@10 {corpus}" for name in thesis.DOMAINS for corpus in ("test", "full"))], rows)


def of_table4(figures: dict[str, float]) -> str:
    """Causal or bidirectional attention in stage 2."""
    rows = []
    for name in thesis.DOMAINS:
        scores = [f"{figures[f'{name}_{arm}_recall_at_10_full']:.3f}" for arm in ("causal", "bidirectional")]
        difference = with_interval(figures, f"{name}_causal_less_bidirectional_recall_at_10_full")
        rows.append([name, *scores, difference])
    return markdown(["domain", "causal, R@10 full", "bidirectional, R@10 full", "difference, points"], rows)


def of_table5(figures: dict[str, float]) -> str:
    """The compression ratio."""
    rows = []
    for ratio in table5.RATIOS:
        key = f"r_{ratio}_tau_{table5.TEMPERATURE}".replace(".", "_")
        scores = [
            figures[f"{key}_{metric}"] for metric in ("recall_at_10_test", "recall_at_10_full", "ndcg_at_10_full")
        ]
        less = with_interval(figures, f"r_{table5.PAPERS_BEST}_less_r_{ratio}_recall_at_10_full")
        most = f"{figures[f'r_{ratio}_bottleneck_tokens']:.0f}"
        rows.append([str(ratio), most, *(f"{score:.3f}" for score in scores), less])
    head = ["R", "bottleneck tokens, at most", "R@10 test", "R@10 full", "N@10 full"]
    return markdown([*head, f"R of {table5.PAPERS_BEST} less this"], rows)


def of_grid(figures: dict[str, float]) -> str:
    """The compression ratio by the temperature."""
    rows = []
    for ratio in table5.OF_GRID:
        keys = [f"r_{ratio}_tau_{temperature}".replace(".", "_") for temperature in table5.TEMPERATURES]
        rows.append([str(ratio), *(f"{figures[f'{key}_recall_at_10_full']:.3f}" for key in keys)])
    return markdown(["R, recall@10 full", *(f"temperature {t}" for t in table5.TEMPERATURES)], rows)


def of_table6(figures: dict[str, float]) -> str:
    """SFT-style or PT-style, quality and cost."""
    rows = []
    for style in table6.STYLES:
        key = table6.label_of(style)
        cells = [f"{figures[f'{name}_{key}_recall_at_10_full']:.3f}" for name in thesis.DOMAINS]
        low, median, high = (figures[f"{key}_tokens_per_second{end}"] for end in ("_min", "", "_max"))
        cells += [f"{median:,.0f} ({low:,.0f} to {high:,.0f})"]
        cells += [f"{figures[f'{key}_minutes']:.1f}", f"{figures[f'{key}_examples']:,.0f}"]
        rows.append([NAMES[style].removeprefix("+ "), *cells])
    quality = (f"{name}, R@10 full" for name in thesis.DOMAINS)
    return markdown(["stage 1", *quality, "tokens a second", "minutes", "examples read"], rows)


def of_figure3(figures: dict[str, float]) -> str:
    """The share of stage 1."""
    rows = [
        [name, *(f"{figures[f'{name}_share_{share}_recall_at_10_full']:.3f}" for share in figure3.SHARES)]
        for name in thesis.DOMAINS
    ]
    return markdown(["R@10 full", *(f"{share}%" for share in figure3.SHARES)], rows)


def of_explore(figures: dict[str, float]) -> str:
    """What was tried on dev."""
    sizes = (0, thesis.FEW_PAIRS, thesis.MAIN_PAIRS)
    rows = []
    for variant in explore.VARIANTS:
        keys = [f"{name}_{variant.replace('-', '_')}_dev_ndcg_at_10_{n}" for name in thesis.DOMAINS for n in sizes]
        rows.append([EXPLORED[variant], *("" if key not in figures else f"{figures[key]:.3f}" for key in keys)])
    said = ("as it is", *(f"{n:,} pairs" for n in sizes[1:]))
    return markdown(["stage 1", *(f"{name}, {each}" for name in thesis.DOMAINS for each in said)], rows)


def of_rate(figures: dict[str, float]) -> str:
    """Plain fine-tuning and the default, with a higher learning rate in stage 1."""
    gl, default = (thesis.label_of(stage1) for stage1 in rate.VARIANTS)
    rows = []
    for name, pairs in itertools.product(thesis.DOMAINS, rate.SIZES):
        cells = [f"{name}, {pairs:,} pairs"]
        for arm in (gl, default):
            key, end = f"{name}_{arm}", f"recall_at_10_full_{pairs}"
            ends = " to ".join(f"{figures[f'{key}_{end}_{which}']:.3f}" for which in ("min", "max"))
            cells.append(f"{figures[f'{key}_{end}']:.3f} ({ends})")
            cells.append(with_interval(figures, f"{key}_less_lower_rate_{end}"))
        cells.append(with_interval(figures, f"{name}_{default}_less_{gl}_recall_at_10_full_{pairs}"))
        rows.append(cells)
    head = ["", "plain fine-tuning, R@10 full", "more than at 5e-4", "default, R@10 full", "more than at 5e-4"]
    return markdown([*head, "default less plain fine-tuning, both at 1e-3"], rows)


def of_foundation(figures: dict[str, float]) -> str:
    """SmolLM2 on medical pairs, alone and with BM25."""
    names = {
        "_bm25": "BM25",
        "_backbone": "SmolLM2-135M, the mean of its states",
        "_no_stage1": "stage 2 alone",
        "": "stage 1, then stage 2",
    }
    metrics = ("recall_at_10_test", "ndcg_at_10_test")
    rows = []
    for end, name in names.items():
        keys = [f"{metric}{end}{fused}" for fused in ("", "_fused") for metric in metrics]
        rows.append([name, *(f"{figures[key]:.3f}" if key in figures else "" for key in keys)])
    return markdown(["", "R@10", "N@10", "R@10 with BM25", "N@10 with BM25"], rows)


def of_learning_rates(figures: dict[str, float]) -> str:
    """Both stages of SmolLM2 by their learning rate."""
    rows = []
    for arm in (*learning_rates.STAGE1_ARMS, *learning_rates.STAGE2_ARMS):
        stage, _, rate_of = arm.partition("-")
        value, _, start = rate_of.partition("-from-")
        key = arm.replace("-", "_")
        if f"dev_ndcg_at_10_{key}" not in figures:
            continue
        scores = [f"{figures[f'{name}_{key}']:.3f}" for name in ("dev_recall_at_10", "dev_ndcg_at_10")]
        begins = {"": "the backbone", "backbone": "the backbone", "stage1": "stage 1"}[start]
        rows.append(
            [stage.replace("stage", "stage "), begins, value, *scores, f"{figures[f'gradient_norm_{key}']:.1f}"]
        )
    return markdown(["", "starts from", "rate", "dev R@10", "dev N@10", "norm of the gradient"], rows)


def of_objectives(figures: dict[str, float]) -> str:
    """The losses of stage 1 at 135 M, the best after stage 2 first."""
    scores = {
        name: {pairs: figures[f"{objectives.label(name)}_dev_ndcg_at_10_{pairs}"] for pairs in (0, objectives.PAIRS)}
        for name in objectives.VARIANTS
        if f"{objectives.label(name)}_dev_ndcg_at_10_0" in figures
    }
    rows = []
    for name in sorted(scores, key=lambda name: -scores[name][objectives.PAIRS]):
        key = f"{objectives.label(name)}_confirmed_dev_ndcg_at_10_{objectives.PAIRS}"
        again = f"{figures[key]:.3f}, {figures[f'{key}_range']:.3f}" if key in figures else ""
        rows.append([OBJECTIVES[name], *(f"{value:.3f}" for value in scores[name].values()), again])
    return markdown(["stage 1", "as it is", "and stage 2", "mean and range of two seeds"], rows)


def of_best_model(figures: dict[str, float]) -> str:
    """The best models."""
    metrics = ("recall_at_10_test", "recall_at_10_full", "ndcg_at_10_test", "ndcg_at_10_full")
    rows = [[name, *(f"{figures[f'{name}_{metric}']:.3f}" for metric in metrics)] for name in thesis.DOMAINS]
    return markdown(["domain", "R@10 test", "R@10 full", "N@10 test", "N@10 full"], rows)


def of_adapt(figures: dict[str, float]) -> str:
    """What an adaptation makes of SmolLM2, beside what it begins with, its teacher and BM25."""
    rows = []
    for system, name in ADAPTED.items():
        keys = [f"{domain}_{metric}_{system}" for domain in adapt.DOMAINS for metric in ("recall_at_10", "ndcg_at_10")]
        rows.append([name, *(f"{figures[key]:.3f}" if key in figures else "" for key in keys)])
    return markdown(["", *(f"{domain}, {what}" for domain in adapt.DOMAINS for what in ("R@10", "N@10"))], rows)


def of_adapt_compared(figures: dict[str, float]) -> str:
    """What adaptations find more than other systems."""
    rows = []
    for one, other in adapt.COMPARED:
        keys = [f"{domain}_{one}_less_{other}_recall_at_10" for domain in adapt.DOMAINS]
        cells = [with_interval(figures, key) if key in figures else "" for key in keys]
        rows.append([f"{ADAPTED[one]}, less {ADAPTED[other]}", *cells])
    return markdown(["R@10, points", *adapt.DOMAINS], rows)


def of_adapt_minutes(figures: dict[str, float]) -> str:
    """Minutes of the steps of adaptations."""
    steps = [*adapt.STEPS, "test"]
    rows = []
    for domain, arm in itertools.product(adapt.DOMAINS, adapt.ADAPTED):
        keys = [*(f"{domain}_minutes_{arm}_{step}" for step in steps), f"{domain}_minutes_{arm}"]
        rows.append([domain, ADAPTED[arm], *(f"{figures[key]:.1f}" if key in figures else "" for key in keys)])
    return markdown(["domain", "arm", *steps, "all"], rows)


def of_ablation(figures: dict[str, float]) -> str:
    """What is lost with each step of an adaptation."""
    rows = []
    for arm, without in {**adapt.WITHOUT, "200": "teacher"}.items():
        key = f"{adapt.ABLATED}_recall_at_10_{arm}"
        if key in figures:
            less = with_interval(figures, f"{adapt.ABLATED}_{arm}_less_{adapt.WHOLE}_recall_at_10")
            fused = f"{figures[f'{key}_fused']:.3f}"
            rows.append([without, f"{figures[key]:.3f}", fused, less])
    return markdown(["left out", "R@10", "R@10 with BM25", "less all steps, points"], rows)


def of_serving(figures: dict[str, float]) -> str:
    """What the server does under load, with the figure that each of these is to reach."""
    rows = [
        [what, f"{figures[name]:,.{digits}f}", is_to_be or "-"]
        for name, (what, digits, is_to_be) in SERVED.items()
        if name in figures
    ]
    return markdown(["", "measured", "is to be"], rows)


def of_encode_speed(figures: dict[str, float]) -> str:
    """How fast texts are encoded, with the figure that each of these is to reach, and where the time goes."""
    rows = []
    for name, (what, digits, is_to_be) in ENCODED.items():
        keys = [f"{name}{end}" for end in ENCODED_BY.values()]
        cells = [f"{figures[key]:,.{digits}f}" if key in figures else "-" for key in keys]
        rows.append([what, *cells, is_to_be or "-"])
    return markdown(["", *ENCODED_BY, "is to be"], rows)


def conditions(found: dict[str, Any]) -> str:
    """What a program ran on."""
    commits, versions, hardware = (
        found[key] if isinstance(found[key], list) else [found[key]] for key in ("commit", "versions", "hardware")
    )
    of_name = {name: list(dict.fromkeys(v[name] for v in versions if name in v)) for name in versions[0]}
    named = ", ".join(f"{name} {' or '.join(of_name[name])}" for name in of_name)
    short = ", ".join(each[:10] + each[40:] for each in commits)  # with what is said of local changes
    return f"`{found['command']}`; commit {short}; {' and '.join(hardware)}; {named}"


# The program that a table is of, and what makes it.
TABLES: dict[str, tuple[str, Callable[[dict[str, float]], str]]] = {
    "sceptic": ("thesis", sceptic),
    "default": ("thesis", of_default(thesis.MAIN_PAIRS)),
    "default-few": ("thesis", of_default(thesis.FEW_PAIRS)),
    **{
        f"thesis-{domain}-{regime}": ("thesis", thesis_table(domain, regime))
        for domain in thesis.DOMAINS
        for regime in domains.REGIMES
    },
    "table1": ("table1", of_table1),
    "comparison": ("table1", of_comparison),
    "table2": ("table2", of_table2),
    "table3": ("table3", of_table3),
    "table4": ("table4", of_table4),
    "table5": ("table5", of_table5),
    "grid": ("table5", of_grid),
    "table6": ("table6", of_table6),
    "figure3": ("figure3", of_figure3),
    "explore": ("explore", of_explore),
    "rate": ("rate", of_rate),
    "best_model": ("best_model", of_best_model),
    "foundation": ("foundation_smollm2", of_foundation),
    "learning_rates": ("learning_rates", of_learning_rates),
    "objectives": ("objectives", of_objectives),
    "adapt": ("adapt", of_adapt),
    "adapt-compared": ("adapt", of_adapt_compared),
    "adapt-minutes": ("adapt", of_adapt_minutes),
    "ablation": ("adapt", of_ablation),
    "serving": ("serving", of_serving),
    "encode_speed": ("encode_speed", of_encode_speed),
}


def draw_thesis(figures: dict[str, float], path: Path) -> None:
    """Draw recall@10 by arm and number of pairs, the seeds' spread beside it."""
    shown = ("none", "pt", "gl", "ibgl-mixture", "ibgl-read-out")
    sizes = (thesis.FEW_PAIRS, thesis.MAIN_PAIRS, thesis.MANY_PAIRS)
    figure = matplotlib.figure.Figure(figsize=(10, 7), layout="constrained")
    axes_of = figure.subplots(2, 2, sharex=True)
    for row, name in zip(axes_of, thesis.DOMAINS, strict=True):
        for axes, regime in zip(row, domains.REGIMES, strict=True):
            end = "_strict" if regime == "strict" else ""
            for number, stage1 in enumerate(shown):
                there = [pairs for pairs in sizes if thesis.seeds_of(thesis.Arm(name, regime, stage1, pairs))]
                keys = [f"{name}_{thesis.label_of(stage1)}_recall_at_10_full_{pairs}{end}" for pairs in there]
                values = [figures[key] for key in keys]
                errors = [
                    [value - figures[f"{key}_min"] for key, value in zip(keys, values, strict=True)],
                    [figures[f"{key}_max"] - value for key, value in zip(keys, values, strict=True)],
                ]
                at = [position + 0.06 * (number - 2) for position in range(len(there))]
                label = NAMES[stage1].removeprefix("+ ")
                axes.errorbar(at, values, errors, marker="o", markersize=4, capsize=3, linewidth=1, label=label)
            for system, style in zip(thesis.LEXICAL, (":", "--"), strict=True):
                recall = figures[f"{name}_{system}_recall_at_10_full"]
                axes.axhline(recall, color="gray", linestyle=style, linewidth=1, label=NAMES[system])
            axes.set_xticks(range(len(sizes)), [f"{pairs:,}" for pairs in sizes])
            axes.set_title(f"{name}, {regime}")
            axes.grid(alpha=0.3)
        row[0].set_ylabel("recall@10, full corpus")
    for axes in axes_of[-1]:
        axes.set_xlabel("pairs of stage 2")
    figure.legend(*axes_of[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


def measured(template: str) -> str:
    """Leave out sections that name the conditions of a program which measured nothing yet."""
    sections = re.split(r"^(?=#+ )", template, flags=re.MULTILINE)
    named = [re.findall(r"\{\{conditions:(\w+)\}\}", section) for section in sections]
    return "".join(section for section, programs in zip(sections, named, strict=True) if all(map(summary, programs)))


def fill(template: str) -> str:
    """Put figures, tables and conditions in their places.

    Raises:
        InputError: If a placeholder is of nothing that is measured.
    """

    def replace(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "table":
            if name not in TABLES:
                raise InputError(f"{TEMPLATE.name}: there is no table {name}")
            program, make = TABLES[name]
            found = summary(program)
            return NOT_YET if found is None else make(found["figures"])
        if kind == "picture":
            picture = Path(results.RESULTS, name, f"{name}.png")
            return f"![{name}]({Path('../benchmarks/results', name, picture.name)})" if picture.is_file() else NOT_YET
        if kind == "hours":
            return hours()
        if kind == "conditions":
            found = summary(name)
            return NOT_YET if found is None else conditions(found)
        return figure_of(kind, name)

    return PLACEHOLDER.sub(replace, template)


def main(argv: list[str] | None = None) -> None:
    """Write the report."""
    parser = program_parser(__doc__)
    output = Path(__file__).parent.parent / "docs" / "results.md"
    parser.add_argument("--output", type=Path, default=output, help="(default: docs/results.md)")
    args = parser.parse_args(argv)
    found = summary("thesis")
    if found is not None:
        draw_thesis(found["figures"], results.RESULTS / "thesis" / "thesis.png")
    write_text(args.output, fill(measured(TEMPLATE.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    run_command(main)
