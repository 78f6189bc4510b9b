"""Does an embedding that is taught by reasons find the right answer more often than one taught by answers alone?

    python benchmarks/reasons.py    # SmolLM2-135M, in the folder of results `reasons`
    python benchmarks/reasons.py --scale tiny    # a random backbone of two layers, a minute; in `reasons_tiny`

Protocol, fixed before any of these models ranked an answer of the test:

- Data: 4,200 questions of `dosages.py`, by seed 0: dosages, dilutions and units, as many of each. No two of a kind
  have the same numbers, in whatever order. The number of an answer is in neither its question nor its reasons, so it
  cannot be copied; the reasons are the calculation without its last result. 600 questions are the test, 64 dev, 3,536
  are trained on.
- Task: of all different answers (some 450, which come again in training) find the one of the question. A model ranks
  them by cosine; of equal scores the right answer stands last. Measures: recall@1, recall@10 and nDCG@10, of all
  questions and of each kind. Beside them what chance finds, and the ten commonest answers of the kind in training,
  which the unit that is asked for gives away.
- Arms differ by the target of stage 1, `lbr learn --target`: `answers`, the answer alone; `reasons-answers`, the
  reasons and then the answer; `reasons`, alone. Equal tokens of Y: each reads 30,000 of them, EOS counted. Answers are
  short, so `answers` sees several times as many questions, and computes as much longer. `same-questions` is the answers
  again, with as many questions as `reasons-answers`. `none` has no stage 1.
- Stage 1 otherwise: IB-GL with the read-out loss, one bottleneck token, texts of 96 tokens, batches of 32, at 4e-4.
  Stage 2: none, and 500 pairs of question and answer (one epoch), batches of 32, temperature 0.02, at 1e-4, the last
  weights. Nothing is tuned; dev tells how well each part of Y is learned, at the end of stage 1.
- Seeds 0 and 1, of both stages. Intervals are 95% of a paired bootstrap over seeds and questions.
- The claim: `reasons-answers` less `answers`, recall@10 after 500 pairs. Confirmed if the interval is above 0,
  refuted if it is below, open else. Beside it, the same less `same-questions`, and `reasons` less `answers`.
- Minutes on one core, estimated before it ran by 75 tokens a second in training: of a seed 58 for the four first
  stages, 5 times 6 for the second ones, 10 for scores; 200 in all.
- Cut, before any of it ran: stage 2 on 200 and on 1,000 pairs.

An arm whose result file is there is not run again. `--seeds` runs some, so that two processes share the work; the
summary is written when all are there.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import results
from arms import all_if_measured, half, measured
from dosages import KINDS, Problem, problems
from flags import program_parser
from tiny_models import make_backbone

import lbr_st
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.data.templates import Template
from lbr_st.evaluation.ranking import DenseRanker, ranks_of
from lbr_st.files import write_jsonl
from lbr_st.learning.batches import IGNORE
from lbr_st.learning.examples import ExampleMaker, build_examples
from lbr_st.learning.objectives import fields_of
from lbr_st.model.opening import open_model, open_sentence_transformer
from lbr_st.quickstart.run import smollm2
from lbr_st.recommending.ranking import gains

PROGRAM = "reasons"
NONE, ANSWERS, SAME_QUESTIONS, REASONS_ANSWERS, REASONS = (
    "none", "answers", "same-questions", "reasons-answers", "reasons",
)  # fmt: skip
# What stage 1 of an arm predicts.
TARGETS = {
    ANSWERS: "{answer}",
    SAME_QUESTIONS: "{answer}",
    REASONS_ANSWERS: r"{reasoning}\n{answer}",
    REASONS: "{reasoning}",
}
SEEDS = (0, 1)


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes and settings that all arms share.

    Attributes:
        sizes: Number of questions of ``test``, ``dev`` and ``train``.
        target_tokens: Tokens of Y that stage 1 reads.
        length: Longest text in tokens.
        batch: Examples of a step of stage 1.
        stage1: Settings of stage 1.
        stage2: Settings of stage 2.
        epochs: Passes of stage 2, by its number of pairs.
    """

    sizes: dict[str, int]
    target_tokens: int
    length: int
    batch: int
    stage1: dict[str, Any]
    stage2: dict[str, Any]
    epochs: dict[int, int]


SCALES = {
    "smollm2": Scale(
        sizes={"test": 600, "dev": 64, "train": 3536},
        target_tokens=30_000,
        length=96,
        batch=32,
        stage1={
            "learning_rate": 4e-4,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 4,
            "attention": "eager",
            "train_sampling_strategy": "random",
        },
        stage2={
            "learning_rate": 1e-4,
            "temperature": 0.02,
            "per_device_train_batch_size": 32,
            "mini_batch_size": 16,
            "attention": "eager",
        },
        epochs={500: 1},
    ),
    "tiny": Scale(
        sizes={"test": 30, "dev": 6, "train": 60},
        target_tokens=1500,
        length=96,
        batch=8,
        stage1={"learning_rate": 1e-3, "per_device_train_batch_size": 8},
        stage2={"learning_rate": 1e-3, "temperature": 0.05, "per_device_train_batch_size": 8},
        epochs={16: 1},
    ),
}


class Cell(NamedTuple):
    """One result: an arm, after stage 2 on some pairs, 0 for none."""

    arm: str
    pairs: int
    seed: int

    @property
    def name(self) -> str:
        """Name of its result file."""
        return f"{self.arm}-{self.pairs}"


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all arms share.

    Attributes:
        backbone: Language model to start from.
        work: Folder of data and models.
        scale: Sizes and settings.
        bf16: Whether training computes in bfloat16.
    """

    backbone: str
    work: Path
    scale: Scale
    bf16: bool

    def write_data(self) -> None:
        """Write the questions of each side, and the pairs of stage 2."""
        drawn = problems(sum(self.scale.sizes.values()), seed=0)
        for side, of_side in sides(drawn, self.scale.sizes).items():
            rows = [{"id": f"{side}-{n}", **each._asdict()} for n, each in enumerate(of_side)]
            write_jsonl(self.work / f"{side}.jsonl", rows)
            for pairs in self.scale.epochs if side == "train" else ():
                write_jsonl(self.work / f"pairs-{pairs}.jsonl", rows[:pairs])

    def questions(self, side: str = "test") -> list[Problem]:
        """Return the questions of a side."""
        return sides(problems(sum(self.scale.sizes.values()), seed=0), self.scale.sizes)[side]

    def answers(self) -> list[str]:
        """Return all different answers, which are ranked."""
        return sorted({each.answer for each in problems(sum(self.scale.sizes.values()), seed=0)})

    def steps(self, arm: str) -> int:
        """Return how many steps of stage 1 an arm takes."""
        counted = REASONS_ANSWERS if arm == SAME_QUESTIONS else arm
        mean = target_length(self.backbone, self.work / "train.jsonl", TARGETS[counted], self.scale.length)
        return max(1, round(self.scale.target_tokens / (mean * self.scale.batch)))

    def stage1(self, arm: str, seed: int) -> str:
        """Return the model of stage 1 of an arm, which is trained once; the backbone where there is none."""
        if arm == NONE:
            return self.backbone
        output = self.work / f"stage1-{arm}-seed{seed}"
        config = lbr_st.LearnConfig(
            model=self.backbone,
            data=[str(self.work / "train.jsonl")],
            dev_data=[str(self.work / "dev.jsonl")],
            allow_overlap=True,  # answers come again, questions do not
            output_dir=str(output),
            objective="sft",
            target=TARGETS[arm],
            max_length=self.scale.length,
            max_steps=self.steps(arm),
            eval_strategy="steps",
            eval_steps=0.5,
            save_strategy="no",
            seed=seed,
            bf16=self.bf16,
            resume=True,
            **self.scale.stage1,
        )
        lbr_st.learn(config)
        return str(output)

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Make the model of a cell and rank the answers for the questions of the test; that of stage 2 is not kept."""
        model = self.stage1(cell.arm, cell.seed)
        found: dict[str, Any] = {"steps": 0, "held_out": {}}
        if cell.arm != NONE:
            found = {"steps": self.steps(cell.arm), "held_out": losses_of(Path(model))}
        if cell.pairs:
            config = lbr_st.AlignConfig(
                model=model,
                data=str(self.work / f"pairs-{cell.pairs}.jsonl"),
                output_dir=str(self.work / f"stage2-{cell.arm}-{cell.pairs}-seed{cell.seed}"),
                max_length=self.scale.length,
                num_train_epochs=self.scale.epochs[cell.pairs],
                save_strategy="no",
                seed=cell.seed,
                bf16=self.bf16,
                resume=True,
                **self.scale.stage2,
            )
            lbr_st.align(config)
            model = str(config.output_dir)
        answers, questions = self.answers(), self.questions()
        ranker = DenseRanker(half(open_sentence_transformer(model)), answers)
        right = [answers.index(each.answer) for each in questions]
        ranks = ranks_of(ranker, [each.query for each in questions], right).tolist()
        if cell.pairs:
            shutil.rmtree(model)
        return {**found, "ranks": ranks}


@functools.cache
def target_length(backbone: str, file: Path, target: str, length: int) -> float:
    """Return the mean number of tokens of Y."""
    model = open_model(backbone, num_bottleneck_tokens=1, max_seq_length=length)
    records = read_records(file, fields_of("sft"), target=Template(target))
    labels = build_examples(records, ExampleMaker(model, "sft"))["labels"]
    return float(np.mean([sum(label != IGNORE for label in row) for row in labels]))


def sides(drawn: Sequence[Problem], sizes: dict[str, int]) -> dict[str, list[Problem]]:
    """Return the problems of each side, one after the other."""
    rest = iter(drawn)
    return {side: [next(rest) for _ in range(size)] for side, size in sizes.items()}


def losses_of(model: Path) -> dict[str, float]:
    """Return the losses of the parts of Y at the end of stage 1, held out."""
    log = json.loads((model / "training_log.json").read_text(encoding="utf-8"))
    last = next(entry for entry in reversed(log) if "eval_loss" in entry)
    return {name: float(value) for name, value in last.items() if name.startswith("eval_target_")}


def figures_of(
    found: dict[Cell, dict[str, Any]], test: Sequence[Problem], train: Sequence[Problem], answers: int
) -> dict[str, float]:
    """Return the figures: means over the seeds, and what one arm finds more than another.

    Args:
        found: Results.
        test: Questions of the test.
        train: Questions that are trained on.
        answers: Number of answers that are ranked.
    """
    figures: dict[str, float] = {"answers": answers, "chance_recall_at_10": min(1.0, 10 / answers)}
    kinds = [each.kind for each in test]
    groups = {"all": np.ones(len(kinds), bool), **{kind: np.array(kinds) == kind for kind in KINDS}}
    commonest = {kind: Counter(each.answer for each in train if each.kind == kind).most_common(10) for kind in KINDS}
    hit = np.array([each.answer in dict(commonest[each.kind]) for each in test])
    figures |= {f"commonest_{group}_recall_at_10": float(hit[members].mean()) for group, members in groups.items()}
    for arm, pairs in dict.fromkeys((cell.arm, cell.pairs) for cell in found):
        of_seeds = [found[Cell(arm, pairs, seed)] for seed in SEEDS]
        ranks = np.array([each["ranks"] for each in of_seeds])
        for group, members in groups.items():
            name, of_group = f"{arm}_{pairs}_{group}", ranks[:, members]
            for number in (1, 10):
                figures |= results.spread(f"{name}_recall_at_{number}", [*(of_group <= number).mean(axis=1).tolist()])
            figures |= results.spread(f"{name}_ndcg_at_10", [*gains(of_group, 10).mean(axis=1).tolist()])
        if not pairs:
            figures[f"{arm}_steps"] = of_seeds[0]["steps"]
            for loss in of_seeds[0]["held_out"]:
                figures |= results.spread(f"{arm}_{loss}", [each["held_out"][loss] for each in of_seeds])
    for pairs in dict.fromkeys(cell.pairs for cell in found):
        for one, other in ((REASONS_ANSWERS, ANSWERS), (REASONS_ANSWERS, SAME_QUESTIONS), (REASONS, ANSWERS)):
            hits = [np.array([np.array(found[Cell(arm, pairs, seed)]["ranks"]) <= 10 for seed in SEEDS], float)
                    for arm in (one, other)]  # fmt: skip
            for group, members in groups.items():
                name = f"{one}_less_{other}_{pairs}_{group}_recall_at_10"
                figures |= results.difference(name, hits[0][:, members], hits[1][:, members])
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--backbone", help="language model to start from (default: that of the scale)")
    parser.add_argument("--scale", choices=SCALES, default="smollm2", help="(default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / PROGRAM, help="folder for what is made")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    parser.add_argument("--seeds", type=int, nargs="+", choices=SEEDS, default=SEEDS, help="(default: all)")
    args = parser.parse_args(argv)
    scale, work = SCALES[args.scale], args.work_dir / args.scale
    work.mkdir(parents=True, exist_ok=True)
    is_tiny = args.scale == "tiny"
    backbone = args.backbone or (make_backbone(work / "backbone") if is_tiny else str(smollm2()))
    bench = Bench(backbone, work, scale, args.bf16)
    bench.write_data()
    program = f"{PROGRAM}_tiny" if is_tiny else PROGRAM
    settings = {"scale": args.scale, "backbone": Path(backbone).name, "bf16": args.bf16}
    results.conditions()
    cells = [
        Cell(arm, pairs, seed)
        for seed in SEEDS
        for arm in (*TARGETS, NONE)
        for pairs in (*([] if arm == NONE else [0]), *scale.epochs)
    ]
    for cell in cells:
        if cell.seed in args.seeds:
            measured(program, cell.name, cell.seed, settings, partial(bench.measure, cell))
    found = all_if_measured(program, [(cell.name, cell.seed) for cell in cells], settings)
    if found is not None:
        of_cells = dict(zip(cells, found, strict=True))
        figures = figures_of(of_cells, bench.questions(), bench.questions("train"), len(bench.answers()))
        rounded = {name: round(value, 4) for name, value in figures.items()}
        results.write_summary(program, rounded, found, argv)


if __name__ == "__main__":
    run_command(main)
