"""Fitting a network: epochs, validation, the best weights kept, resumed bit for bit after an interruption.

Whatever is random in an epoch is seeded by (seed, epoch), so that no random state has to be carried over: a fit that
was interrupted repeats the epoch that it was in and ends with the weights of an undisturbed one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.augment import crop_flip
from models.classifier import Classifier
from models.errors import ModelError
from models.estimate import estimated
from models.finetune import prepare
from models.history import Epoch, History, Log, Progress
from models.pools import Pooling, Pools
from models.recipe import TrainConfig
from models.source import Source, check_labels, split
from models.spec import Network, derive, plain
from models.weights import read_checkpoint, replace

__all__ = ["Epoch", "History", "Log", "Perturb", "Progress", "Source", "TrainConfig", "fit"]

Perturb = Callable[[nn.Module, Tensor, Tensor, int], Tensor]
"""(images in box units -> logits, images (B, C, H, W), labels (B,), step) -> perturbed images (B, C, H, W)."""

_REPORTS = 20  # progress reports an epoch


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[torch.Generator]:
    """Seed everything random, give a generator of one's own, and leave the random state as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


@dataclass
class _Fit:
    """One fit. `view` maps images in box units to logits and shares the module's weights."""

    view: Classifier
    config: TrainConfig
    source: Source
    labels: Tensor
    device: torch.device
    perturb: Perturb | None
    pools: Pooling | None
    network: Network
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    history: History
    progress: Callable[[Progress], None]
    best: dict[str, Tensor] = field(default_factory=dict)

    def train_mode(self) -> None:
        """Training mode, but for the layers that are frozen: their running statistics stay as well."""
        self.view.train()
        for module in self.view.modules():
            own = list(module.parameters())
            if own and not any(p.requires_grad for p in own):
                module.eval()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The network in evaluation mode and with frozen weights, to be attacked."""
        self.view.eval().requires_grad_(False)
        yield
        for parameter in self.trained:
            parameter.requires_grad_(True)

    def perturbed(self, x: Tensor, y: Tensor, step: int) -> Tensor:
        """Perturbed images."""
        assert self.perturb is not None
        with self.frozen():
            return self.perturb(self.view, x, y, step).detach()

    def load(self, index: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        x, y = self.source.batch(index), self.labels[torch.from_numpy(index)]
        x, y = (t.pin_memory() if self.device.type == "cuda" else t for t in (x, y))  # copied beside what it is at
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)

    def loss(self, x: Tensor, y: Tensor, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss () and the logits (B, K) that count for the accuracy."""
        config = self.config
        if config.augment == "crop_flip":
            x = crop_flip(x, generator)
        x_adv = x if self.perturb is None else self.perturbed(x, y, step)
        if self.pools is not None and self.pools.renews(x, y, step):
            with self.frozen():
                self.pools.renew(step)
        if not self.view.training:
            self.train_mode()
        logits = self.view(x_adv)
        loss = self.network.criterion(x_adv, logits, y, config.label_smoothing)
        if self.perturb is not None and config.adversarial_weight < 1:
            clean = self.network.criterion(x, self.view(x), y, config.label_smoothing)
            loss = config.adversarial_weight * loss + (1 - config.adversarial_weight) * clean
        if self.network.penalty is not None:
            loss = loss + self.network.penalty()
        if self.network.objective is not None:
            loss = loss + self.network.objective(self.view.normalised(x))
        if self.pools is not None:
            loss = loss + self.pools.loss(step)
        return loss, logits

    def step(self, loss: Tensor, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("pace", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.trained, self.config.clip)
        self.optimizer.step()

    def validate(self, index: np.ndarray[Any, Any], first_step: int) -> tuple[float, float]:
        """Mean loss and accuracy, on perturbed images where training is."""
        total = torch.zeros(2, device=self.device)
        for number, start in enumerate(range(0, len(index), self.config.batch_size)):
            x, y = self.load(index[start : start + self.config.batch_size])
            if self.perturb is not None:
                x = self.perturbed(x, y, first_step + number)
            self.view.eval()
            with torch.no_grad():
                logits = self.view(x)
                total[0] += F.cross_entropy(logits, y, reduction="sum")
                total[1] += (logits.argmax(1) == y).sum()
        loss, right = (total / len(index)).tolist()
        return loss, right

    def epoch(self, index: np.ndarray[Any, Any], held_out: np.ndarray[Any, Any], seed: int) -> None:
        """One pass over the samples `index`, and one over the samples `held_out`."""
        number, size = len(self.history.epochs), self.config.batch_size
        batches = math.ceil(len(index) / size)
        if len(index) % size == 1 and batches > 1:
            batches -= 1  # batch norm cannot train on one sample; it comes into another batch in another epoch
        steps = self.config.epochs * batches
        before = self.history.epochs[-1].val_accuracy if self.history.epochs else None
        total = torch.zeros(2, device=self.device)
        seen, lr, start = 0, self.config.lr, time.perf_counter()
        with _seeded(self.device, derive(seed, "epoch", number)) as generator:
            order = index[torch.randperm(len(index), generator=generator).numpy()]
            for batch in range(batches):
                x, y = self.load(order[batch * size : (batch + 1) * size])
                step = number * batches + batch
                lr = self.config.lr_at(step, steps)
                loss, logits = self.loss(x, y, step, generator)
                self.step(loss, lr)
                seen += len(y)
                total += torch.stack([loss.detach() * len(y), (logits.detach().argmax(1) == y).sum()])
                if (batch + 1) % max(1, batches // _REPORTS) == 0 and batch + 1 < batches:
                    self.report(number, batch + 1, batches, total / seen, before)
            mean_loss, accuracy = (total / seen).tolist()
            if not math.isfinite(mean_loss):
                raise ModelError(
                    f"train: the loss must stay finite, got {mean_loss} in epoch {number + 1}; "
                    f"lower train.lr (now {self.config.lr:g}) or set train.clip"
                )
            val_loss, val_accuracy = self.validate(held_out, steps) if len(held_out) else (None, None)
        seconds = time.perf_counter() - start
        self.keep(Epoch(number, mean_loss, accuracy, val_loss, val_accuracy, lr, seconds))
        self.report(number, batches, batches, total / seen, val_accuracy)

    def report(self, epoch: int, batch: int, batches: int, mean: Tensor, val_accuracy: float | None) -> None:
        loss, accuracy = mean.tolist()
        self.progress(Progress(epoch, self.config.epochs, batch, batches, loss, accuracy, val_accuracy))

    def keep(self, result: Epoch) -> None:
        """Append an epoch; keep its weights if it is the best: by validation accuracy, then by the loss there."""
        history = self.history
        history.epochs.append(result)
        if history.best < 0 or result.merit >= history.epochs[history.best].merit:
            history.best = result.epoch
            state = self.view.network.state_dict()
            self.best = {key: value.detach().clone() for key, value in state.items()}
        history.stopped = 0 < self.config.patience <= result.epoch - history.best

    @property
    def finished(self) -> bool:
        """Whether no epoch is left to do."""
        return self.history.stopped or len(self.history.epochs) >= self.config.epochs

    def save(self, path: Path, signature: str) -> None:
        """Write all that the next epoch depends on."""
        state = {
            "signature": signature,
            "history": self.history.to_json(),
            "network": self.view.network.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "pools": None if self.pools is None else self.pools.state(),
        }
        replace(path, lambda beside: torch.save(state, beside))

    def restore(self, path: Path, signature: str) -> None:
        """Go on from what `save` wrote.

        Raises:
            ModelError: the file is damaged or belongs to another fit.
        """
        state = read_checkpoint(path, "train: resumable state")
        if not isinstance(state, dict) or state.get("signature") != signature:
            raise ModelError(f"train: {path} must be the state of this very training, got another's; delete it")
        self.history = History.from_json(state["history"])
        self.view.network.load_state_dict(state["network"])
        self.best = {key: value.to(self.device) for key, value in state["best"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        if self.pools is not None:
            self.pools.restore(state["pools"], self.device)


def fit(
    network: Network,
    config: TrainConfig,
    source: Source,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    perturb: Perturb | None = None,
    pools: Pools | None = None,
    progress: Callable[[Progress], None] | None = None,
    store: Path | None = None,
    log: Log | None = None,
) -> History:
    """Train `network.module` in place; it ends on `device`, in evaluation mode, with its best weights.

    Args:
        network: what to train.
        config: the recipe.
        source: the training samples; the validation samples are split off from them.
        seed: of everything random.
        device: to train on.
        perturb: makes the images of adversarial training.
        pools: of adversarial examples to train on as well.
        progress: told some twenty times an epoch, and after each epoch.
        store: file for the state after each epoch; a fit that finds one of its own there goes on from it.
        log: takes scalars after each epoch.

    Raises:
        ModelError: the data or the recipe do not allow training, the loss is not finite, or `store` is another's.
    """
    labels = np.array(source.labels, dtype=np.int64)  # a copy: torch refuses read-only arrays
    check_labels(labels, network.num_classes)
    if config.method == "adversarial" and perturb is None:
        raise ModelError("train=adversarial: needs an attack that makes its images, got none; set train.adversary")
    device = torch.device(device)
    network.module.requires_grad_(True)
    if config.method == "finetune":
        prepare(network, config, seed)
    index, held_out = split(labels, config.val_fraction, seed)
    trained = [p for p in network.module.parameters() if p.requires_grad]
    if network.estimate is not None and (store is None or not store.exists()):
        network.module.to(device)
        network.estimate(source, index, device)
    if not trained:
        return estimated(network, config, source, index, held_out, device)
    first = source.batch(index[:1])
    view = network.bare("training", (first.shape[1], first.shape[2], first.shape[3])).to(device)
    for parameter in trained:
        parameter.requires_grad_(True)
    run = _Fit(
        view=view,
        config=config,
        source=source,
        labels=torch.from_numpy(labels),
        device=device,
        perturb=perturb,
        pools=None if pools is None else pools.start(view, seed),
        network=network,
        trained=trained,
        optimizer=config.make_optimizer(trained, network.paces_of(trained)),
        history=History(samples=len(index), held_out=len(held_out)),
        progress=progress or (lambda report: None),
    )
    recipe = [asdict(config), seed, len(labels), *([] if pools is None else [pools.about()])]
    signature = json.dumps(plain(recipe))
    if store is not None and store.exists():
        run.restore(store, signature)
    while not run.finished:
        run.epoch(index, held_out, seed)
        if log is not None:
            run.history.epochs[-1].tell(log)
        if store is not None:
            run.save(store, signature)
    network.module.load_state_dict(run.best)
    view.eval()
    return run.history
