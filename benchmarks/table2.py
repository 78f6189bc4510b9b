"""Table 2 of the paper (arXiv 2601.11124): what the language model can say, beside what its embeddings find.

    python benchmarks/table2.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY --bf16

Protocol, fixed before the test set was touched: that of `thesis.py`, corpus-taught, seed 0, and

- The first 200 test queries are answered by greedy search, at most 64 tokens: in sight of the query (open), and through
  the bottleneck alone where there is one. BLEU-4 (sacrebleu) and ROUGE-L (rouge-score, F) compare with the document,
  cut at 64 tokens.
- Models: the backbone, plain fine-tuning, IB-GL half SFT-style and half reconstruction, and the same with the read-out
  loss; and the last one after stage 2 with 1,000 pairs, which shows what contrastive learning leaves of the language
  model.
- Recall@10 in the full corpus beside them, after stage 2 with 1,000 pairs, from `thesis.py`.
- Minutes on one core, estimated before it ran: a model 2.5, in both domains 25. (Before it ran, cut
  from 300 queries, and by IB-GL that is SFT-style alone, for a slower machine.)
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import arms
import domains
import table1
import thesis
import torch
from arms import Lab
from domains import Domain
from tqdm.auto import tqdm

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module

PROGRAM = "table2"
QUERIES, NEW_TOKENS, BATCH = 200, 64, 32
# By the names of the result files: what stage 1 was.
MODELS = {
    "llm": "none",
    "gl": "gl",
    "ibgl_paper": table1.PAPER,
    "ibgl": table1.IBGL,
    "ibgl_cl": table1.IBGL,
}


def answers(module: BottleneckTransformer, queries: list[str], *, way: str) -> list[str]:
    """Return the answers of a language model.

    Args:
        module: The language model and its tokenizer.
        queries: To answer.
        way: ``plain`` (no bottleneck tokens), ``open`` or ``bottleneck``.
    """
    found: list[str] = []
    for start in tqdm(range(0, len(queries), BATCH), f"Answering, {way}"):
        batch = queries[start : start + BATCH]
        if way == "plain":
            found += plain_answers(module, batch)
        else:
            hidden = way == "bottleneck"
            found += module.generate(batch, through_bottleneck=hidden, max_new_tokens=NEW_TOKENS, do_sample=False)
    return found


def plain_answers(module: BottleneckTransformer, queries: list[str]) -> list[str]:
    """Return the answers of a language model that was trained without bottleneck tokens."""
    tokenizer: Any = module.tokenizer
    rows = [ids[: -module.num_bottleneck_tokens] for ids in module.tokenize_rows(queries)]
    language_model: Any = module.model
    batch = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(language_model.device)
    with torch.no_grad():
        output = language_model.generate(
            **batch, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def likeness(found: list[str], expected: list[str]) -> dict[str, float]:
    """Return BLEU-4 and ROUGE-L, from 0 to 100.

    Raises:
        InputError: If the packages that compute them are not installed.
    """
    try:
        import sacrebleu
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise InputError("BLEU and ROUGE need an extra: pip install 'lbr-st[bench]'") from error
    scorer = RougeScorer(["rougeL"])
    rouge = [scorer.score(one, other)["rougeL"].fmeasure for one, other in zip(expected, found, strict=True)]
    return {"bleu_4": sacrebleu.corpus_bleu(found, [expected]).score, "rouge_l": 100 * sum(rouge) / len(rouge)}


def run_model(name: str, domain: Domain, lab: Lab, settings: dict[str, Any]) -> dict[str, Any]:
    """Measure one model."""
    stage1 = MODELS[name]
    model: Path | str = lab.stage1(domain, table1.REGIME, stage1, 0)
    trained = None
    if name == "ibgl_cl":
        setting = thesis.setting_of(domain, stage1, lab, settings)
        trained = lab.stage2(domain, model, "table2", table1.PAIRS, setting, 0)
    if stage1 == "none":
        opened = lbr_st.from_backbone(str(model), num_bottleneck_tokens=1, max_seq_length=lab.scale.length)
    else:
        opened = lbr_st.load(str(trained or model))
    module = bottleneck_module(opened).eval()
    records = read_records(domain.test)[:QUERIES]
    cut = [module.tokenizer(r["document"], add_special_tokens=False).input_ids[:NEW_TOKENS] for r in records]
    expected = module.tokenizer.batch_decode(cut)
    ways = ["plain"] if stage1 in ("none", "gl") else ["open", "bottleneck"]
    scores: dict[str, float] = {}
    for way in ways:
        found = likeness(answers(module, [record["query"] for record in records], way=way), expected)
        scores |= {f"{metric}_{'open' if way == 'plain' else way}": value for metric, value in found.items()}
    if trained:
        shutil.rmtree(trained)
    return {"scores": scores}


def main(argv: list[str] | None = None) -> None:
    """Measure what is missing, and write the summary if it was asked for all domains."""
    asked, lab, settings = arms.begin(argv, __doc__, thesis.DOMAINS)
    figures: dict[str, float] = {}
    files = []
    for each in asked.domains:
        domain = lab.domain(each, asked.data)
        for name, stage1 in MODELS.items():
            run = partial(run_model, name, domain, lab, settings)
            found = arms.measured(PROGRAM, f"{each}-{name}", 0, settings, run)
            arm = thesis.Arm(each, domains.REGIMES[0], stage1, table1.PAIRS)
            recall = thesis.measured(arm, 0, domain, lab, settings)["scores"]["recall_at_10_full"]
            figures |= {f"{each}_{name}_{metric}": round(value, 2) for metric, value in found["scores"].items()}
            figures[f"{each}_{name}_recall_at_10_full_after_stage_2"] = round(recall, 4)
            files.append(found)
    arms.write_summary(PROGRAM, asked, figures, files)


if __name__ == "__main__":
    run_command(main)
