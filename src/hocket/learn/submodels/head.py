"""The rows of a model that make the scores of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from hocket.core.manifest import Manifest
from hocket.errors import InvalidUpdate, ModelError
from hocket.learn.flat import views
from hocket.learn.submodels.tracer import traced
from hocket.learn.submodels.where import told


@dataclass(frozen=True, slots=True)
class Head:
    """The output layer: row i of each of its tensors is about class i and no other."""

    tensors: tuple[str, ...]  # weight, and bias if there is one
    classes: int

    def check(self, labels: Sequence[int]) -> None:
        """Raise InvalidUpdate unless these are some classes, each once, in ascending order."""
        if not labels:
            raise InvalidUpdate(
                "labels is empty, and this task's loss is masked: name the classes that the device "
                "has examples of"
            )
        if any(one >= other for one, other in pairwise(labels)):
            raise InvalidUpdate("labels must ascend, each class once; sort them")
        if not 0 <= labels[0] <= labels[-1] < self.classes:
            wrong = labels[0] if labels[0] < 0 else labels[-1]
            raise InvalidUpdate(
                f"labels holds {wrong}; the model's classes are 0 to {self.classes - 1}"
            )

    def clear_others(self, vector: Tensor, labels: Sequence[int], manifest: Manifest) -> None:
        """Put 0 in place of the rows of all other classes, in a vector laid out as `manifest`."""
        others = torch.ones(self.classes, dtype=torch.bool)
        others[list(labels)] = False
        tensors = views(vector, manifest)
        for name in self.tensors:
            tensors[name][others] = 0


def head_of(module: nn.Module) -> Head:
    """The torch.nn.Linear whose output is the model's.

    Raises:
        ModelError: there is none, or its tensors are used elsewhere in the model too.
    """
    try:
        graph = traced(module)
    except ModelError as error:
        raise ModelError(
            f"training.masked_loss needs the rows of the model's output layer, but {error.message}"
            ', and set training.masked_loss = "off"',
            **error.details,
        ) from error
    node = _maker(module, graph)
    called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(called, nn.Linear):
        _unknown(node, "is no torch.nn.Linear")
    everywhere = [id(p) for _, p in module.named_parameters(remove_duplicate=False)]
    own = {id(p) for p in called.parameters()}
    times = sum(each.target == node.target for each in graph.nodes)
    if times > 1 or any(everywhere.count(one) > 1 for one in own):
        _unknown(node, "is used elsewhere in the model too")
    names = tuple(name for name, p in module.named_parameters() if id(p) in own)
    return Head(names, called.out_features)


def _maker(module: nn.Module, graph: Graph) -> Node:
    """The node that makes the model's output."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    node = output.args[0]
    while (
        isinstance(node, Node)
        and node.op == "call_module"
        and isinstance(module.get_submodule(str(node.target)), nn.Identity)
    ):
        node = node.args[0]
    return node if isinstance(node, Node) else output


def _unknown(node: Node, why: str) -> NoReturn:
    raise ModelError(
        f"cannot tell the rows of the model's output layer: {told(node)}, which makes its output, "
        f"{why}. End the model in a torch.nn.Linear of its "
        'own, or set training.masked_loss = "off"',
        node=node.name,
    )
