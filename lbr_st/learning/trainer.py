"""The trainer of stage 1."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer

from lbr_st.learning.batches import PackedRows, StratifiedSampler, collate
from lbr_st.learning.examples import with_wrong_source
from lbr_st.learning.masked_model import READ_OUT_WEIGHT, CutOffModel
from lbr_st.learning.objectives import Arm
from lbr_st.model.bottleneck import BottleneckTransformer, bottleneck_module
from lbr_st.training.callbacks import SaveAtEvaluation, SetEpoch, WarnOfRisingLoss
from lbr_st.training.finish import is_sharded
from lbr_st.training.held_out import HeldOutEvaluator
from lbr_st.training.lora import load_adapter, save_adapter


class LearnTrainer(Trainer):
    """A `transformers.Trainer` of stage 1.

    Beside the training loss it logs ``tokens_per_second`` (X, Z and Y, without padding). Held-out examples give
    ``eval_loss`` per target token, whatever batches they come in, and ``eval_bottleneck_nats``: how much higher the
    loss is with the X and Z of another example, which is what the bottleneck carries. ``eval_read_out_loss`` is apart
    from ``eval_loss``. Where there are several objectives, each has its own numbers too, ``eval_OBJECTIVE_loss`` and so
    on. Where Y is put together of fields, ``eval_target_FIELD_loss`` and the like are those of the tokens of each. With
    ``evaluator`` there is what embeddings of held-out pairs are worth before stage 2.

    Checkpoints are whole models of the native layout; with LoRA they are the adapter alone.

    Args:
        model: Model whose first module is a `BottleneckTransformer`; trained in place.
        arm: What the examples were made for.
        read_out_weight: Weight of the read-out loss; without a bottleneck there is none.
        adapter: What is trained of the model; default is all of it.
        held_out: Held-out examples by objective.
        parts: Fields of Y that have numbers of their own, see `lbr_st.learning.examples.ExampleMaker`.
        evaluator: Evaluator of the embeddings.
        training_model: What the language model is trained as: `CutOffModel`, or a subclass with another loss.
        **kwargs: Arguments of the trainer.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        arm: Arm = Arm.CUT_OFF,
        read_out_weight: float = READ_OUT_WEIGHT,
        adapter: PeftModel | None = None,
        held_out: dict[str, Dataset] | None = None,
        parts: Sequence[str] = (),
        evaluator: HeldOutEvaluator | None = None,
        training_model: Callable[..., CutOffModel] = CutOffModel,
        **kwargs: Any,
    ) -> None:
        self.sentence_transformer = model
        self.evaluator = evaluator
        self.adapter = adapter
        self.held_out = held_out or {}
        self.parts = parts
        # The same examples with the X and Z of others, where all must pass through Z and there are others.
        self.wrong: dict[str, Dataset] = {}
        for objective, examples in self.held_out.items() if arm is Arm.CUT_OFF else ():
            wrong = with_wrong_source(examples)
            if wrong is not None:
                self.wrong[objective] = wrong
        self._tokens: Tensor | int = 0
        self._since: float | None = None
        self._paused = 0.0
        self._rising = WarnOfRisingLoss()
        weight = read_out_weight if arm.has_bottleneck else 0.0
        super().__init__(
            model=training_model(bottleneck_module(model).model, bottleneck=arm.has_bottleneck, read_out_weight=weight),
            data_collator=collate,
            eval_dataset=self.held_out or None,  # the trainer wants one where it is to evaluate
            **kwargs,
        )
        self.add_callback(SaveAtEvaluation())
        self.add_callback(self._rising)

    @property
    def metrics(self) -> list[str]:
        """Names of what evaluation gives of the held-out examples."""
        training_model: Any = self.model
        kinds = ["loss", *(["read_out_loss"] if training_model.bottleneck else [])]
        names = {each for kind in kinds if self.held_out for each in self._names(kind, self.held_out)}
        names |= {each for each in self._names("bottleneck_nats", self.wrong) if self.wrong}
        kinds += ["bottleneck_nats"] if "sft" in self.wrong else []
        names |= {f"target_{field}_{kind}" for kind in kinds for field in self.parts if self.held_out}
        names |= set(self.evaluator.names if self.evaluator else [])
        return sorted(f"eval_{name}" for name in names)

    def _names(self, kind: str, objectives: Iterable[str]) -> list[str]:
        """Return the names of a number: of all objectives together, and of each where there are several."""
        return [kind, *(f"{each}_{kind}" for each in objectives if len(self.held_out) > 1)]

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = dataset.lengths if isinstance(dataset, PackedRows) else [len(ids) for ids in dataset["input_ids"]]
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        sampler = StratifiedSampler(batch_size, lengths, seed)
        self.remove_callback(SetEpoch)  # of the sampler before
        self.add_callback(SetEpoch(sampler))
        return sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int]:
        return SequentialSampler(eval_dataset)  # the trainer's own by length would draw from the run's random numbers

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Count the tokens of a step, and watch its loss."""
        if self._since is None:
            self._since, self._paused = time.perf_counter(), 0.0
        self._tokens = self._tokens + inputs["attention_mask"].sum()
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._rising.add(loss)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the tokens per second to the training loss."""
        if "loss" in logs and isinstance(self._tokens, Tensor) and self._since is not None:
            now = time.perf_counter()
            tokens = self.accelerator.gather(self._tokens.to(self.args.device)).sum().item()
            logs["tokens_per_second"] = round(tokens / (now - self._since - self._paused), 1)
            self._tokens, self._since, self._paused = 0, now, 0.0
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out examples and the embeddings of the held-out pairs, and log what comes of it.

        Losses are sums over all held-out targets; the trainer's own, a mean of batch means, depends on the batches.
        """
        start = time.perf_counter()
        # A loader draws a seed from the run's random numbers: how often a run is scored must not change its weights.
        with torch.random.fork_rng(devices=[]):
            found = self._held_out_metrics()
        if self.evaluator is not None:
            # All processes have the model; one encodes.
            is_one = self.args.process_index == 0
            [embeddings] = broadcast_object_list([self.evaluator(self.sentence_transformer) if is_one else {}])
            found |= embeddings
        seconds = time.perf_counter() - start
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(seconds, 4)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._paused += time.perf_counter() - start  # it is no part of the tokens per second
        return metrics

    def _held_out_metrics(self) -> dict[str, float]:
        """Return losses and nats, per target token: of all together, of each of several objectives and fields of Y."""
        sums: dict[str, float] = {}
        targets: dict[str, float] = {}

        def add(names: Iterable[str], total: float, number: float) -> None:
            for name in names:
                sums[name] = sums.get(name, 0.0) + total
                targets[name] = targets.get(name, 0.0) + number

        for objective, examples in self.held_out.items():
            found = self._summed(examples)
            kinds = {kind: f"{kind}_sums" for kind in ("loss", "read_out_loss") if f"{kind}_sums" in found}
            if objective in self.wrong:
                wrong = self._summed(self.wrong[objective])
                kinds["bottleneck_nats"] = "nats"
                for part in ("", "part_") if "part_targets" in found else ("",):
                    found[f"{part}nats"] = wrong[f"{part}loss_sums"] - found[f"{part}loss_sums"]
            for kind, name in kinds.items():
                add(self._names(kind, [objective]), float(found[name]), float(found["targets"]))
                if "part_targets" in found:
                    of_fields = zip(self.parts, found[f"part_{name}"], found["part_targets"], strict=True)
                    for field, total, number in of_fields:
                        add([f"target_{field}_{kind}"], float(total), float(number))
        return {name: total / targets[name] for name, total in sums.items() if targets[name]}

    def _summed(self, examples: Dataset) -> dict[str, Any]:
        """Return what `CutOffModel` gives of each example, summed over all of them and all processes."""
        loop = self.evaluation_loop(self.get_eval_dataloader(examples), "Evaluation", prediction_loss_only=False)
        predictions: Any = loop.predictions
        assert len(predictions[0]) == len(examples), (len(predictions[0]), len(examples))
        training_model: Any = self.model
        kinds = ["loss_sums", *(["read_out_loss_sums"] if training_model.bottleneck else [])]
        names = [*kinds, "targets"]
        if "parts" in examples.column_names:
            names += [*(f"part_{kind}" for kind in kinds), "part_targets"]
        return {name: each.astype(np.float64).sum(axis=0) for name, each in zip(names, predictions, strict=True)}

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        super()._save_checkpoint(*args, **kwargs)
        self._paused += time.perf_counter() - start

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if not self.args.should_save:
            return
        folder = output_dir or str(self.args.output_dir)
        if self.adapter is not None:
            save_adapter(self.adapter, folder)
            return
        module = bottleneck_module(self.sentence_transformer)
        if state_dict is not None:  # gathered, as the weights in memory are shards
            module.gathered_weights = {name.removeprefix("language_model."): w for name, w in state_dict.items()}
        try:
            self.sentence_transformer.save_pretrained(folder, create_model_card=False)
        finally:
            module.gathered_weights = None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if is_sharded(self):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        elif self.adapter is not None:
            load_adapter(self.adapter, resume_from_checkpoint)
        else:
            saved = BottleneckTransformer.load(resume_from_checkpoint)
            bottleneck_module(self.sentence_transformer).model.load_state_dict(saved.model.state_dict())

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)
