"""The training loop: phases, epochs, iterations. One process, or many under torchrun.

    plan -> each epoch: enter its phase -> batches -> loss -> step -> statistics -> evaluate -> save

Everything random is drawn from (seed, epoch, iteration, device), so that a run that was stopped
goes on as if it had not been. With several devices the loss is divided by the clips of all of them:
gradients equal those of one device with the same global batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tubelet.errors import FeatureError, UsageError, VideoError
from tubelet.models.blocks.positions import fit_all
from tubelet.train import metrics
from tubelet.train.augment import mix
from tubelet.train.batch_plan import Batch, epoch_batches
from tubelet.train.config import TrainConfig, plan_of
from tubelet.train.data import BadSamples, ClipMaker, Loaded, Loader
from tubelet.train.devices import Device
from tubelet.train.hooks import (
    add_drop_path,
    add_dropout,
    recompute_activations,
    short_convolutions_in_float32,
)
from tubelet.train.loss import class_weights, loss_sum
from tubelet.train.multigrid import Phase
from tubelet.train.norm import merge_norms, norms_of, precise, prepare_norms, set_norm, weights_of
from tubelet.train.optim import (
    Average,
    carry_momentum,
    choose_trainable,
    make_optimizer,
    set_rate,
)
from tubelet.train.recipe_network import build, describe, is_transformer
from tubelet.train.samples import Split, check_splits, read_split
from tubelet.train.view_scores import video_scores

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def read_splits(config: TrainConfig, folder: Path) -> tuple[Split, Split | None]:
    """Training and validation samples; `folder` is what relative names are relative to."""
    data, classes = config.data, config.data.classes
    if isinstance(classes, str):
        names = folder / classes
        if not names.is_file():
            raise UsageError(f"{names}: no such list of classes")
        lines = names.read_text(encoding="utf-8").splitlines()
        classes = tuple(line.strip() for line in lines if line.strip())
    root = folder / data.root if data.root else None
    options: dict[str, Any] = {"root": root, "multi_label": data.multi_label}
    train = read_split(folder / data.train, classes=classes, **options)
    val = None
    if data.val:
        val = read_split(folder / data.val, classes=train.classes, **options)
    check_splits(train, val, allow_absent=data.allow_absent)
    return train, val


def batches_of(
    config: TrainConfig, phase: Phase, *, epoch: int, samples: int, device: Device
) -> list[Batch]:
    """What a device trains on in an epoch. Raises UsageError where no batch can be filled."""
    return epoch_batches(
        samples,
        phase,
        seed=config.seed,
        epoch=epoch,
        device=device.rank,
        devices=device.devices,
        repeats=config.augment.repeats,
    )


def seed_of(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


class Run:
    """One training run: the state of `checkpoint.pt`, and how it goes forward."""

    def __init__(
        self, config: TrainConfig, *, train: Split, val: Split | None, device: Device
    ) -> None:
        self.config, self.train, self.val, self.device = config, train, val, device
        self.plan = plan_of(config, devices=device.devices)
        self._check_batches()
        self.weights = class_weights(config.class_weights, train.counts())
        if self.weights is not None:
            self.weights = self.weights.to(device.name)
        torch.manual_seed(seed_of(config.seed))
        model = build(
            config.network,
            num_classes=len(train.classes),
            multi_label=config.data.multi_label,
            any_size=config.multigrid is not None,
        )
        self.spec = model.clip
        self.about = describe(
            config.network, model, classes=train.classes, multi_label=config.data.multi_label
        )
        self._prepare(model)
        self.optimizer = make_optimizer(self.model, config.optim, rate=self.plan.rate.at(0))
        fp16 = config.precision == "fp16"
        self.scaler = torch.amp.GradScaler(device.kind, enabled=fp16)  # pyright: ignore
        ema = config.optim.ema
        self.average = Average(weights_of(self.model), ema) if ema else None
        self.bad = BadSamples(config.data.max_bad)
        self.epoch, self.iteration, self.best = 0, 0, float("-inf")
        self.history: list[dict[str, Any]] = []
        self.losses: list[float] = []
        self.phase: Phase | None = None
        self.loader = Loader(self._maker(), workers=config.data.workers)

    def _maker(self) -> ClipMaker:
        samples, classes = self.train.samples, len(self.train.classes)
        return ClipMaker(samples, classes, self.spec, self.config.augment)

    def _check_batches(self) -> None:
        for phase in self.plan.phases:
            self.batches(phase, phase.start)

    def batches(self, phase: Phase, epoch: int) -> list[Batch]:
        """The batches of this device in an epoch."""
        device, samples = self.device, len(self.train.samples)
        return batches_of(self.config, phase, epoch=epoch, samples=samples, device=device)

    def _prepare(self, model: Any) -> None:
        """What training adds to a network: norms, drops, frozen parts, recomputation."""
        config = self.config
        self.model = model.to(self.device.name)
        prepare_norms(model, frozen=config.norm == "frozen")
        choose_trainable(model, config.tune)
        for norm in norms_of(model):  # the statistics of a part that does not learn stay, too
            norm.frozen = norm.frozen or not norm.weight.requires_grad
        add_dropout(model, config.network.dropout)
        if not is_transformer(model.config):
            add_drop_path(model, config.network.drop_path)
        if self.device.kind == "cpu" and config.precision != "fp32":
            short_convolutions_in_float32(model)
        if config.checkpoint_activations:
            recompute_activations(model)
        self.wrapped: Any = model
        if self.device.devices > 1:
            ids = [self.device.name] if self.device.kind == "cuda" else None
            self.wrapped = DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)

    def enter(self, phase: Phase) -> None:
        """Norms, and for a transformer the tables, of a phase."""
        if is_transformer(self.model.config):
            clip = self.model.clip
            if (clip.frames, clip.crop) != (phase.frames, phase.crop):
                self._rebuild(phase)
        set_norm(self.model, phase.norm)
        self.phase = phase

    def _rebuild(self, phase: Phase) -> None:
        old, optimizer = self.model, self.optimizer
        self._prepare(old.resized(frames=phase.frames, crop=phase.crop))
        self.optimizer = make_optimizer(self.model, self.config.optim, rate=1.0)
        pairs = zip(old.parameters(), self.model.parameters(), strict=True)
        carry_momentum(optimizer, self.optimizer, pairs)

    def epochs(self) -> Iterator[dict[str, Any]]:
        """Train to the end; yields the record of every finished epoch."""
        total = self.plan.phases[-1].end
        while self.epoch < total:
            phase = self.plan.phase(self.epoch)
            if phase != self.phase:
                self.enter(phase)
            record = self.train_epoch(phase)
            self._settle()
            self.epoch, self.iteration = self.epoch + 1, 0
            if self.val is not None and self._evaluates(self.epoch - 1):
                record["val"] = self.evaluate(self.val)
                score = record["val"].get("top1", record["val"].get("map", 0.0))
                record["best"] = score > self.best
                self.best = max(score, self.best)
            self.history.append(record)
            yield record

    def _evaluates(self, epoch: int) -> bool:
        if self.plan.schedule:
            return epoch in self.plan.evaluations
        last = epoch + 1 == self.plan.phases[-1].end
        return last or (epoch + 1) % self.config.evaluate_every == 0

    def train_epoch(
        self, phase: Phase, *, on_step: Callable[[], None] | None = None
    ) -> dict[str, Any]:
        """One epoch, from the iteration where the run stands."""
        batches = self.batches(phase, self.epoch)
        on_step = on_step or self.on_step
        started, computed, waited, clips = time.monotonic(), time.process_time(), 0.0, 0
        loaded = self.loader.epoch(batches[self.iteration :])
        for batch in batches[self.iteration :]:
            asked = time.monotonic()
            made = next(loaded)
            waited += time.monotonic() - asked
            self.bad.add(len(made.batch.draws), made.bad)
            rate = self.plan.rate.at(self.epoch + batch.index / len(batches))
            loss, count = self.step(made, rate)
            self.losses.append(loss)
            clips += count
            self.iteration = batch.index + 1
            on_step()
        self.bad.check()
        seconds = time.monotonic() - started
        losses, self.losses = self.losses, []
        known = [loss for loss in losses if loss == loss]
        return {
            "epoch": self.epoch,
            "phase": f"{phase.frames}x{phase.crop}",
            "rate": self.plan.rate.at(self.epoch),
            "loss": sum(known) / len(known) if known else None,
            "losses": [loss if loss == loss else None for loss in losses],
            "clips": clips,
            "bad_samples": int(self.device.total(self.bad.count)[0]),
            "seconds": round(seconds, 3),
            "cpu_s": round(time.process_time() - computed, 3),
            "decode_wait_s": round(waited, 3),
            "bound_by": "decode" if waited > seconds / 2 else "compute",
        }

    def on_step(self) -> None:
        """Called after every iteration; replaced by whoever saves inside an epoch."""

    def step(self, made: Loaded, rate: float) -> tuple[float, int]:
        """One iteration: (mean loss over all devices, clips of all devices)."""
        config, device = self.config, self.device
        seed = (config.seed, self.epoch, made.batch.index)
        count, empty = device.total(len(made.clips), float(not len(made.clips)))
        if empty:  # nothing to learn from on some device: all leave this iteration out
            return float("nan"), 0
        torch.manual_seed(seed_of(*seed, device.rank, 1))
        first = device.rank * made.batch.shape.batch
        clips, targets = made.clips, made.targets
        if not made.bad:
            clips, targets = mix(clips, targets, augment=config.augment, seed=seed, first=first)
        self.wrapped.train()
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        parts = min(config.optim.accumulate, len(clips))
        total = 0.0
        chunks = zip(clips.tensor_split(parts), targets.tensor_split(parts), strict=True)
        for i, (part, wanted) in enumerate(chunks):
            last = i + 1 == parts
            waits = nullcontext() if last or device.devices == 1 else self.wrapped.no_sync()
            with waits:
                total += self._backward(part, wanted, count)
        self._update()
        return device.total(total)[0] / count, int(count)

    def _backward(self, clips: Tensor, targets: Tensor, count: float) -> float:
        """Gradients of a part of a batch; the sum of its losses."""
        name, config = self.device.name, self.config
        dtype = PRECISIONS.get(config.precision)
        with torch.autocast(self.device.kind, dtype=dtype, enabled=dtype is not None):
            logits = self.wrapped(clips.to(name))
            loss = loss_sum(
                logits,
                targets.to(name),
                multi_label=config.data.multi_label,
                smoothing=config.label_smoothing,
                weights=self.weights,
            )
        self.scaler.scale(loss * (self.device.devices / count)).backward()
        value = float(loss.detach())
        if value != value:
            raise FeatureError(
                f"the loss is not a number in epoch {self.epoch}, iteration {self.iteration}; "
                "lower the learning rate, add warm-up, or use precision='fp32'"
            )
        return value

    def _update(self) -> None:
        clip_norm = self.config.optim.clip_norm
        if clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            learning = [p for p in self.model.parameters() if p.requires_grad]
            torch.nn.utils.clip_grad_norm_(learning, clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(weights_of(self.model))

    def _settle(self) -> None:
        """After an epoch: statistics of all parts and devices become one set."""
        merge_norms(self.model)
        wanted = self.config.precise_norm
        if wanted and self._evaluates(self.epoch):
            assert self.phase is not None
            batches = self.batches(self.phase, self.epoch)[:wanted]
            maker = self._maker()
            made = (maker(batch).clips for batch in batches)
            precise(self.model, (clips.to(self.device.name) for clips in made if len(clips)))
            merge_norms(self.model)
        if self.average is not None:
            self.average.tensors.update(
                {k: v.clone() for k, v in weights_of(self.model).items() if "running_" in k}
            )

    def final_weights(self) -> dict[str, Tensor]:
        """The weights that are evaluated and kept: the moving average where there is one."""
        return dict(self.average.tensors) if self.average else weights_of(self.model)

    def evaluation_model(self) -> Any:
        """A network of the full size with the final weights, in eval mode."""
        model = self.about.build().to(self.device.name)
        model.load_state_dict(fit_all(self.final_weights(), model))
        return model.eval()

    def evaluate(self, split: Split) -> dict[str, float]:
        """Metrics of a split, its samples shared among the devices; "unread" counts bad ones."""
        model, device = self.evaluation_model(), self.device
        mine = range(device.rank, len(split.samples), device.devices)
        found: list[tuple[int, Any]] = []
        unread = 0
        for i in mine:
            try:
                scores = video_scores(
                    model, split.samples[i].path, views=self.config.views, device=device.name
                )
            except VideoError:
                unread += 1
            else:
                found.append((i, scores))
        together = dict(pair for part in device.gather(found) for pair in part)
        unread = int(device.total(unread)[0])
        if not together:
            raise UsageError(f"{split.source}: no validation video could be read")
        rows = sorted(together)
        labels = metrics.multi_hot([split.samples[i] for i in rows], len(split.classes))
        scores = np.stack([together[i] for i in rows])
        multi_label = self.config.data.multi_label
        return {**metrics.summary(scores, labels, multi_label=multi_label), "unread": unread}

    def _statistics(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {k: v for k, v in state.items() if "running_" in k or "split_" in k}

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors and plain data. All devices call it."""
        return {
            "statistics": self.device.gather(self._statistics()),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.tensors if self.average else None,
            "phase": self.phase.start if self.phase else 0,
            "position": [self.epoch, self.iteration],
            "best": self.best,
            "losses": self.losses,
            "history": self.history,
            "bad": [self.bad.drawn, self.bad.count, self.bad.errors],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.enter(self.plan.phase(state["phase"]))
        each = state["statistics"]
        own = each[self.device.rank] if self.device.rank < len(each) else {}
        self.model.load_state_dict({**state["model"], **own})
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            where = self.device.name
            self.average.tensors = {k: v.to(where) for k, v in state["average"].items()}
        self.epoch, self.iteration = state["position"]
        self.best, self.history, self.losses = state["best"], state["history"], state["losses"]
        self.bad.drawn, self.bad.count, self.bad.errors = state["bad"]
