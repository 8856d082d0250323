"""ASO-Fed: each arrival moves the model by what is new in that device's own model.

Chen, Ning, Slawski, Rangwala. Asynchronous Online Federated Learning for Edge Devices with Non-IID
Data. IEEE BigData 2020. arXiv:1911.02134. The client's steps are those of AFL-Lib, a public
implementation, and so are the defaults of lambda and beta.

The paper's server also multiplies the first layer by softmax(|W|) after each arrival. That is left
out here, as in most implementations: it shrinks the weights of that layer towards 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hocket.core.ids import DeviceId, Version
from hocket.core.ranges import at_least_one, not_negative
from hocket.core.strategy import Global, Memory, Step
from hocket.core.terms import LocalTerms
from hocket.core.update import Applied, Update
from hocket.learn.flat import check_size, views
from hocket.learn.local_rule import Ended, LocalFacts, Part
from hocket.learn.pool import POOL
from hocket.learn.sparse import accumulate
from hocket.learn.strategies.below_one import below_one
from hocket.learn.strategies.buffers import check_whole
from hocket.learn.strategies.parts import examples_of
from hocket.learn.strategies.recalled import check_names, names, tensor, whole_number

_LAST = "last/"
_AVERAGE, _GRADIENT = "average", "gradient"
_MOST_EXAMPLES = 1 << 63


@dataclass(frozen=True, slots=True)
class Decayed:
    """A step goes along r (g - g' + h), and then h <- beta h + (1 - beta) g'.

    g is the gradient of f(w) + lambda / 2 |w - x|^2, x being the model received; g' is that of the
    step before and h what decays of all before that: both go on from training to training, and are
    0 at first. r = max(1, ln d), d being the mean of the seconds from a pull to its outcome: slow
    devices, which come seldom, take longer steps.
    """

    lambda_: float
    beta: float
    kind: ClassVar[str] = "decayed"
    whole_only: ClassVar[bool] = True  # g' and h are of the whole model
    timed: ClassVar[bool] = True
    watches: ClassVar[bool] = False

    def __post_init__(self) -> None:
        not_negative(self.kind, "lambda_", self.lambda_)
        below_one(self.kind, "beta", self.beta)

    def begin(
        self,
        base: Tensor,
        extra: Tensor | None,  # noqa: ARG002 - the protocol's; nothing travels with the model
        kept: Mapping[str, Tensor],
        facts: LocalFacts,
    ) -> Decaying:
        """Go on from the last training's g' and h."""
        average, gradient = (_copy(kept, name, base) for name in (_AVERAGE, _GRADIENT))
        stretch = max(1.0, math.log(max(1.0, facts.mean_delay_s)))
        return Decaying(
            self,
            stretch,
            views(base, facts.manifest),
            average,
            gradient,
            views(average, facts.manifest),
            views(gradient, facts.manifest),
        )


@dataclass(frozen=True, slots=True)
class Decaying:
    """One training's steps."""

    rule: Decayed
    stretch: float  # r
    base: Mapping[str, Tensor]
    average: Tensor  # h, changed in place
    gradient: Tensor  # g', changed in place
    averages: Mapping[str, Tensor]  # views of them
    before: Mapping[str, Tensor]
    features: ClassVar[None] = None

    def penalty(self, inputs: Tensor, features: Tensor | None) -> None:
        """Nothing: the gradient of the proximal term is known without its value."""

    def correct(
        self,
        gradients: dict[str, Tensor],
        weights: Mapping[str, Tensor],
        part: Part,  # noqa: ARG002 - whole models only
    ) -> None:
        """R (g - g' + h) in place of the gradient; then h and g' move on."""
        for name, loss in gradients.items():
            gradient = loss.add(weights[name] - self.base[name], alpha=self.rule.lambda_)
            before, average = self.before[name], self.averages[name]
            gradients[name] = (gradient - before).add_(average).mul_(self.stretch)
            average.mul_(self.rule.beta).add_(before, alpha=1 - self.rule.beta)
            before.copy_(gradient)

    def end(self, weights: Tensor, steps: int) -> Ended:  # noqa: ARG002 - the protocol's
        """G' and h are kept."""
        return {_AVERAGE: self.average, _GRADIENT: self.gradient}, None


def _copy(kept: Mapping[str, Tensor], name: str, base: Tensor) -> Tensor:
    if name not in kept:
        return torch.zeros_like(base)
    check_size(kept[name], len(base))
    return kept[name].clone()


@dataclass(slots=True)
class Last:
    """Of each device its last model (n, float32; never changed in place), and its examples."""

    models: dict[DeviceId, Tensor] = field(default_factory=dict)
    examples: dict[DeviceId, int] = field(default_factory=dict)
    total: int = 0  # of all these examples


@dataclass(frozen=True, slots=True)
class AsoFed:
    """x <- x + n_i / N (w_i - w_i'), one version per update.

    w_i is the device's new model and w_i' its last, before its first the one that it started from;
    n_i its examples. N, those of the whole fleet, is taken as `devices` times the mean over the
    devices that have come. Staleness discounts nothing.

    A model-sized vector is kept of each device: 4 bytes a value. Updates of submodels are refused.
    """

    devices: int = 100  # size of the fleet; if more have pushed, their number
    lambda_: float = 0.01  # of the devices' proximal term
    beta: float = 0.5  # how slowly their old gradients decay
    kind: Literal["asofed"] = "asofed"
    half: ClassVar[type[Decayed]] = Decayed

    def __post_init__(self) -> None:
        at_least_one(self.kind, "devices", self.devices)
        not_negative(self.kind, "lambda_", self.lambda_)
        below_one(self.kind, "beta", self.beta)

    @property
    def local(self) -> LocalTerms:
        """The devices' decaying gradients."""
        return LocalTerms(Decayed.kind, (("beta", self.beta), ("lambda_", self.lambda_)))

    def init(self, model: Tensor) -> Last:  # noqa: ARG002 - the protocol's
        """No device is known yet."""
        return Last()

    def step(
        self, now: Global[Tensor], memory: Last, update: Update[Tensor], base: Tensor
    ) -> Step[Tensor, Last]:
        """Move the model by what is new, and remember the device's model.

        Raises InvalidUpdate for an update of a submodel, or `num_examples` below 1.
        """
        check_whole(self.kind, update)
        examples, device_id = examples_of(update), update.header.device_id
        trained = POOL.take(len(base)).copy_(base)
        accumulate(trained, update.delta, 1.0)
        news = trained - memory.models.get(device_id, base)
        memory.models[device_id] = trained
        memory.total += examples - memory.examples.get(device_id, 0)
        memory.examples[device_id] = examples
        weight = self.weight(memory, examples)
        after = POOL.take(len(news))
        torch.add(now.model, news, alpha=weight, out=after)
        version = Version(now.version + 1)
        tau = now.version - update.header.base_version
        return Step(Global(after, version), memory, Applied(version, weight, tau))

    def weight(self, memory: Last, examples: int) -> float:
        """N_i / N, in (0, 1]."""
        seen = len(memory.examples)
        return examples * seen / (memory.total * max(self.devices, seen))

    def keep(self, memory: Last) -> Memory[Tensor]:
        """The models as they are, and their examples."""
        facts = {"kind": self.kind, "devices": list(memory.models)}
        examples = {f"examples/{name}": count for name, count in memory.examples.items()}
        models = {f"{_LAST}{name}": model for name, model in memory.models.items()}
        return Memory({**facts, **examples}, models)

    def recall(self, kept: Memory[Tensor], model: Tensor) -> Last:
        """Every device as it was. Raises CorruptState."""
        devices = names(self.kind, kept, "devices")
        facts = ["devices", *(f"examples/{name}" for name in devices)]
        check_names(self.kind, kept, facts, {f"{_LAST}{name}" for name in devices})
        memory, shape = Last(), tuple(model.shape)
        for name in devices:
            count = whole_number(self.kind, kept, f"examples/{name}", 1, _MOST_EXAMPLES)
            memory.examples[DeviceId(name)] = count
            memory.models[DeviceId(name)] = tensor(
                self.kind, kept, f"{_LAST}{name}", shape, torch.float32
            )
        memory.total = sum(memory.examples.values())
        return memory
