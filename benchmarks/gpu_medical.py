"""What do both stages make of SmolLM2-135M in medicine, on a GPU and in minutes?

    make gpu WEIGHTS=DIR_OF_THE_MODEL DATA=DIR_WITH_TRAIN_DEV_TEST_JSONL

or ``PYTHONPATH=. python benchmarks/gpu_medical.py --weights DIR --data DIR``. Needs torch, transformers,
sentence-transformers and peft; BM25 joins in where mteb, bm25s and PyStemmer are installed. The stages are the plain
loops of `plain_stages.py`.

Protocol, fixed before the test set was touched with this backbone:

- Strict, as in `foundation_medical.py`: stage 1 sees training pairs only, stage 2 the first 1,000 of them. Texts are
  cut at 128 tokens, one bottleneck token. The dev set is not used: there is one setting, and the last step is kept.
- Stage 1: half SFT-style, half reconstruction, with the read-out loss; one epoch over the first training records that
  make at most 1,000,000 tokens of X, Z and Y; batches of 32.
- Stage 2: three epochs, batches of 64, temperature 0.02. With and without stage 1, all else equal.
- Learning rates: the defaults of the package. bf16 autocast on float32 weights. Seeds 0, 1 and 2 where time allows.
- Scores: recall@10 and nDCG@10 of the test questions over the test documents, exact: of the backbone as it is (the
  mean of its last hidden states), of stage 1 alone, of stage 2 alone and of both. Figures are means over whole seeds,
  with the least and the largest.

``--weights`` is a directory of float weights, a GGUF file or a directory with one. A file too large to be copied at
once may come in parts, ``NAME.part*``, which are joined in the order of their names, beside ``NAME.sha256``:

    split -b 50M -d NAME NAME.part; sha256sum NAME > NAME.sha256
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import results
import torch
from gpu_part import Part, part_parser, require_device
from plain_stages import Course, align, learn, make_examples
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn

import lbr_st
from lbr_st.alignment.config import AlignConfig
from lbr_st.cli.main import run_command
from lbr_st.data.records import read_records
from lbr_st.errors import InputError
from lbr_st.files import file_sha256, replacing, sha256
from lbr_st.learning.batches import Example
from lbr_st.learning.config import LearnConfig
from lbr_st.model.bottleneck import bottleneck_module
from lbr_st.model.contract import fingerprint
from lbr_st.model.gguf import gguf_file
from lbr_st.model.opening import open_model
from lbr_st.records import Record
from lbr_st.training.held_out import NDCG, RECALL, HeldOutEvaluator

PROGRAM = "gpu_medical"
OBJECTIVE = "sft:0.5,reconstruct:0.5"
# Arm: suffix of its figures in the summary.
SUFFIXES = {"both": "", "no_stage1": "_no_stage1", "stage1": "_stage1", "backbone": "_backbone", "bm25": "_bm25"}
ONCE = ("backbone", "bm25")  # without training, and so without seeds


@dataclass(frozen=True)
class Sizes:
    """How much of everything there is.

    Attributes:
        length: Longest text in tokens.
        stage1_tokens: Tokens of stage 1.
        pairs: Pairs of stage 2.
        epochs: Passes of stage 2.
        seeds: Seeds of the order that both stages read in.
    """

    length: int = 128
    stage1_tokens: int = 1_000_000
    pairs: int = 1000
    epochs: int = 3
    seeds: tuple[int, ...] = (0, 1, 2)


SIZES = {"cuda": Sizes(), "cpu": Sizes(length=16, stage1_tokens=600, pairs=8, epochs=3, seeds=(0, 1))}


def joined(weights: Path, work: Path) -> Path:
    """Return where the weights are: what is in parts is put together.

    Args:
        weights: Directory of a model, or with the parts of a file; or a file.
        work: Folder for the whole file.

    Raises:
        InputError: If parts are of several files, or do not make the file that was taken apart.
    """
    parts = sorted(weights.glob("*.part*"), key=lambda file: (len(file.name), file.name)) if weights.is_dir() else []
    if not parts:
        return weights
    names = {file.name.rpartition(".part")[0] for file in parts}
    if len(names) > 1:
        raise InputError(f"{weights} has parts of {len(names)} files, {', '.join(sorted(names))}; one is needed")
    [name] = names
    sums = weights / f"{name}.sha256"
    if not sums.is_file():
        raise InputError(f"{weights} has no {sums.name}; where {name} is: sha256sum {name} > {sums.name}")
    expected = sums.read_text(encoding="utf-8").split()[0]
    work.mkdir(parents=True, exist_ok=True)
    with replacing(work / name) as unfinished:
        with open(unfinished, "wb") as whole:
            for file in parts:
                with open(file, "rb") as part:
                    shutil.copyfileobj(part, whole)
        found = file_sha256(unfinished)
        if found != expected:
            raise InputError(
                f"{weights}: the {len(parts)} parts of {name} make a file of SHA-256 {found[:12]}..., and {sums.name} "
                f"says {expected[:12]}...: is a part missing?"
            )
    return work / name


class TextAlone(nn.Module):
    """Takes the bottleneck tokens out of what is pooled.

    Args:
        ids: Their ids.
    """

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__()
        self.ids = list(ids)

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the features with a mask that is 0 for them too."""
        ids = torch.tensor(self.ids, device=features["input_ids"].device)
        return {**features, "attention_mask": features["attention_mask"] * ~torch.isin(features["input_ids"], ids)}


def mean_of_states(model: SentenceTransformer) -> SentenceTransformer:
    """Return what embeds with the same language model, as the mean of its last hidden states.

    The bottleneck tokens are behind the text, and so change none of its states.
    """
    module = bottleneck_module(model)
    pooling = Pooling(module.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(
        modules=[module, TextAlone(module.bottleneck_token_ids), pooling, Normalize()], device=str(model.device)
    )


@dataclass(frozen=True)
class Study:
    """What all arms share.

    Attributes:
        backbone: Where the language model is.
        model: Model that is trained again and again, see `reset`.
        weights: Its weights before any training.
        examples: Examples of stage 1.
        pairs: Pairs of stage 2.
        evaluator: What scores a model.
        sizes: How much of everything there is.
        part: What says how much time is left.
    """

    backbone: Path
    model: SentenceTransformer
    weights: dict[str, torch.Tensor]
    examples: Sequence[Example]
    pairs: Sequence[Record]
    evaluator: HeldOutEvaluator
    sizes: Sizes
    part: Part

    def reset(self) -> None:
        """Give the model the weights that it had before any training."""
        bottleneck_module(self.model).model.load_state_dict(self.weights)

    def learn(self, seed: int) -> Course:
        """Train stage 1."""
        config = LearnConfig(data=["train.jsonl"], objective=OBJECTIVE, **self._settings(seed))
        return learn(self.model, self.examples, config, self.part.go_on)

    def align(self, seed: int) -> Course:
        """Train stage 2."""
        config = AlignConfig(data="train.jsonl", num_train_epochs=self.sizes.epochs, **self._settings(seed))
        return align(self.model, self.pairs, config, self.part.go_on)

    def _settings(self, seed: int) -> dict[str, Any]:
        cpu = self.model.device.type == "cpu"
        return {"model": str(self.backbone), "output_dir": "nowhere", "bf16": True, "use_cpu": cpu, "seed": seed}

    def scores(self, model: SentenceTransformer | None = None) -> dict[str, float]:
        """Return recall@10 and nDCG@10 on the test, and how long that took; of the model that is trained by default."""
        start = time.perf_counter()
        found = self.evaluator(model or self.model)
        names = {"recall_at_10_test": RECALL, "ndcg_at_10_test": NDCG}
        return {name: found[key] for name, key in names.items()} | {"seconds": time.perf_counter() - start}


def begin(weights: Path, data: Path, device: str, part: Part) -> Study:
    """Return a study, with its model opened and its data read.

    Args:
        weights: What `open_model` opens.
        data: Folder with train.jsonl and test.jsonl.
        device: Where the model is.
        part: What says how much time is left.
    """
    sizes = SIZES[device]
    train = read_records(data / "train.jsonl")
    model = open_model(str(weights), num_bottleneck_tokens=1, max_seq_length=sizes.length).to(device).eval()
    state = bottleneck_module(model).model.state_dict()
    return Study(
        backbone=weights,
        model=model,
        weights={name: tensor.clone() for name, tensor in state.items()},
        examples=make_examples(train, model, OBJECTIVE, sizes.stage1_tokens),
        pairs=train[: sizes.pairs],
        evaluator=HeldOutEvaluator(read_records(data / "test.jsonl"), batch_size=128, dtype=torch.bfloat16),
        sizes=sizes,
        part=part,
    )


def bm25(data: Path) -> dict[str, float]:
    """Return the scores of BM25.

    Raises:
        InputError: If one of its packages is not installed.
    """
    found = lbr_st.evaluate("bm25", data / "test.jsonl")
    return {f"{metric}_test": found[metric] for metric in ("recall_at_10", "ndcg_at_10")}


class Records:
    """The result files of a run, and its summary.

    Args:
        settings: What every result file carries.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.arms: dict[tuple[str, int], dict[str, Any]] = {}

    def add(self, arm: str, seed: int, scores: dict[str, float], **more: Any) -> None:
        """Write the result file of an arm, and say what it scored."""
        results.write_arm(PROGRAM, arm, seed, {"scores": scores, **more, "settings": self.settings})
        self.arms[arm, seed] = results.read_arm(PROGRAM, arm, seed)
        recall, ndcg = scores["recall_at_10_test"], scores["ndcg_at_10_test"]
        print(f"{arm}, seed {seed}: recall@10 {recall:.3f}, nDCG@10 {ndcg:.3f}", flush=True)

    def summarize(self, seeds: Sequence[int]) -> None:
        """Write the summary of the seeds that are whole, and of what needs none."""
        figures: dict[str, float] = {"seeds": len(seeds)}
        for arm, suffix in SUFFIXES.items():
            of_arm = [
                each for (name, seed), each in self.arms.items() if name == arm and (seed in seeds or arm in ONCE)
            ]
            for name in ("recall_at_10_test", "ndcg_at_10_test") if of_arm else ():
                values = [each["scores"][name] for each in of_arm]
                found = {name + suffix: values[0]} if arm in ONCE else results.spread(name + suffix, values)
                figures |= {each: round(value, 4) for each, value in found.items()}
        for arm, stage in (("stage1", "stage1"), ("both", "stage2")):
            speeds = [self.arms[arm, seed]["training"]["tokens_per_second"] for seed in seeds]
            if speeds:
                figures[f"tokens_per_second_{stage}"] = round(sum(speeds) / len(speeds), 1)
        command = ["--weights", "DIR", "--data", "DIR", "--device", self.settings["device"]]
        results.write_summary(PROGRAM, figures, list(self.arms.values()), command)


def run_seed(study: Study, seed: int, records: Records) -> bool:
    """Train and score all arms of a seed; return True."""
    study.reset()
    course = study.align(seed)
    records.add("no_stage1", seed, study.scores(), training=course.figures)
    study.reset()
    course = study.learn(seed)
    records.add("stage1", seed, study.scores(), training=course.figures)
    course = study.align(seed)
    records.add("both", seed, study.scores(), training=course.figures)
    return True


def run(study: Study, data: Path, records: Records) -> None:
    """Score the backbone and BM25, then all arms of one seed after the other."""
    records.add("backbone", 0, study.scores(mean_of_states(study.model)))
    try:
        records.add("bm25", 0, bm25(data))
    except InputError as error:
        print(f"without BM25: {error}", flush=True)
    records.summarize([])
    part, whole, longest = study.part, [], 0.0
    for seed in study.sizes.seeds:
        start, what = time.monotonic(), f"seed {seed}"
        if part.has_time_for(what, longest) and part.attempt(what, partial(run_seed, study, seed, records)):
            whole.append(seed)
            longest = max(longest, time.monotonic() - start)
            records.summarize(whole)


def main(argv: list[str] | None = None) -> None:
    """Join the weights and run the study."""
    parser = part_parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="language model to start from")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with train and test.jsonl")
    args = parser.parse_args(argv)
    require_device(args.device)
    results.conditions()
    part = Part(args.seconds)
    with tempfile.TemporaryDirectory() as work:
        weights = joined(args.weights, Path(work))
        settings = {
            "device": args.device,
            **asdict(SIZES[args.device]),
            "objective": OBJECTIVE,
            "data_sha256": sha256(args.data / f"{name}.jsonl" for name in ("train", "test")),
            "weights": (gguf_file(weights) or weights).name,
            "weights_sha256": fingerprint(weights),
        }
        run(begin(weights, args.data, args.device, part), args.data, Records(settings))
    part.end()


if __name__ == "__main__":
    run_command(main)
