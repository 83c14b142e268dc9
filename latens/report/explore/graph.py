"""A decoder as a graph of core ATen operators that the page can run: JSON and one array of weights.

The page's interpreter (``web/src/operators.ts``) has the operators listed in ``assets/operators.json``.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latens.report.explore.packing import ArrayBlocks

FOLDED = 1 << 16  # a constant with more cells than this, and than its inputs, is computed in the page
SMALL = 256  # constants with fewer cells keep their precision
HALF = 60_000.0  # float16 holds weights up to this size
SYMBOLS = {operator.getitem: "getitem", operator.mul: "mul", operator.add: "add", operator.sub: "sub",
           operator.floordiv: "floordiv", operator.mod: "mod"}  # fmt: skip
# a name without its overload is enough, except for these operators
OVERLOADS = {"sym_size.int", "arange.start_step", "max.dim", "min.dim"}


NAMED = ("dtype", "alpha", "beta", "value", "correction", "approximate", "rounding_mode")  # keyword-only arguments


@dataclass(frozen=True)
class DecoderGraph:
    """A decoder in the page's form.

    Attributes:
        inputs: the kind of each input ("f" float32, "d" float64, "i" whole numbers) and the shape of its rows.
        nodes: the operators in order, in JSON's types; ``{"r": i}`` is entry i of (inputs, constants, results).
        outputs: the index of each result by name.
        constants: weights, and all other values that do not depend on the inputs.
    """

    inputs: list[tuple[str, list[int]]]
    nodes: list[dict[str, Any]]
    outputs: dict[str, int]
    constants: list[Tensor]

    @property
    def lacking(self) -> list[str]:
        """The operators that the page does not have, by name."""
        return sorted({node["op"] for node in self.nodes} - operators())

    def to_json(self, blocks: ArrayBlocks, *, half: bool = True) -> dict[str, Any]:
        """The graph in JSON's types. Its weights go to ``blocks``; large ones as float16 if ``half``."""
        about, parts = [], {name: [np.zeros(0, name)] for name in ("float16", "float32", "float64")}
        for constant in self.constants:
            kind, x = _stored(constant, half)
            parts[x.dtype.name].append(x.ravel())
            about.append([kind, x.dtype.name, list(x.shape)])
        for name, arrays in parts.items():
            if len(arrays) > 1:
                blocks.add(f"weights-{name}", np.concatenate(arrays))
        return {"inputs": self.inputs, "nodes": self.nodes, "outputs": self.outputs, "constants": about}


@cache
def operators() -> frozenset[str]:
    """The operators that the page's interpreter has."""
    return frozenset(json.loads((files("latens.report.explore") / "assets" / "operators.json").read_text("utf-8")))


def graph(program: torch.export.ExportedProgram, names: Sequence[str]) -> DecoderGraph:
    """The graph of an exported program, in which all values that do not depend on the inputs are computed in advance.

    Args:
        program: core ATen operators, with rows on the first axis of every input and output.
        names: the names of the outputs.
    """
    with torch.no_grad():
        return _Writer(program).graph(tuple(names))


class _Writer:
    """Builds a :class:`DecoderGraph` from an exported program."""

    def __init__(self, program: torch.export.ExportedProgram):
        self.program = program
        self.known: dict[Any, Any] = {}  # values that do not depend on the inputs
        self.places: dict[Any, Any] = {}  # where the values of other nodes come from: ("input" | "node", index)
        self.nodes: list[tuple[str, list[Any], dict[str, Any]]] = []
        self.constants: list[Tensor] = []
        self.found: dict[int, int] = {}
        self.inputs: list[tuple[str, list[int]]] = []

    def graph(self, names: tuple[str, ...]) -> DecoderGraph:
        """Go through the program's nodes; ``names`` are the names of its outputs."""
        signature = self.program.graph_signature
        held = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        lifted = signature.inputs_to_lifted_tensor_constants
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                if node.name in held:
                    name = held[node.name]
                    state = self.program.state_dict
                    self.known[node] = state[name] if name in state else self.program.constants[name]
                elif node.name in lifted:
                    self.known[node] = self.program.constants[lifted[node.name]]
                else:
                    self.places[node] = ("input", len(self.inputs))
                    given = node.meta["val"]
                    self.inputs.append((_kind(given.dtype), [int(size) for size in given.shape[1:]]))
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                results = node.args[0]
        outputs = [self._argument(result) for result in results]  # computed first, since an output may be a constant
        nodes = [_node(op, [self._settled(a) for a in args], {k: self._settled(v) for k, v in named.items()})
                 for op, args, named in self.nodes]  # fmt: skip
        places = {name: self._settled(output)["r"] for name, output in zip(names, outputs)}
        return DecoderGraph(self.inputs, *_used(nodes, places, len(self.inputs) + len(self.constants)), self.constants)

    def _call(self, node: Any) -> None:
        inside = [n for n in node.all_input_nodes if n not in self.known]
        if not inside and not _is_random(node.target):
            args, named = (torch.fx.map_arg(part, self.known.__getitem__) for part in (node.args, node.kwargs))
            value = node.target(*args, **named)
            fed = sum(v.numel() for v in map(self.known.get, node.all_input_nodes) if isinstance(v, Tensor))
            if not isinstance(value, Tensor) or value.numel() <= max(FOLDED, fed):
                self.known[node] = value
                return
        if node.target is torch.ops.aten._assert_tensor_metadata.default:
            return
        args, named = _positional(node)
        self.nodes.append((_name(node.target), [self._argument(a) for a in args],
                           {k: self._argument(v) for k, v in named.items()}))  # fmt: skip
        self.places[node] = ("node", len(self.nodes) - 1)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            if value not in self.known:
                return self.places[value]
            value = self.known[value]
        if isinstance(value, Tensor):
            place = self.found.setdefault(id(value), len(self.constants))
            if place == len(self.constants):
                self.constants.append(value)
            return ("constant", place)
        if isinstance(value, list | tuple):
            return [self._argument(each) for each in value]
        if isinstance(value, torch.dtype):
            return str(value).removeprefix("torch.")
        if isinstance(value, torch.SymInt):
            return int(value)
        if isinstance(value, float) and not np.isfinite(value):
            return {"x": {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")}
        return value if isinstance(value, bool | int | float | str | dict) or value is None else None

    def _settled(self, value: Any) -> Any:
        """References as indices, which are known only once the number of constants is."""
        if isinstance(value, tuple):
            start = {"input": 0, "constant": len(self.inputs), "node": len(self.inputs) + len(self.constants)}
            return {"r": start[value[0]] + value[1]}
        return [self._settled(each) for each in value] if isinstance(value, list) else value


def _used(
    nodes: list[dict[str, Any]], outputs: dict[str, int], first: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The nodes that the outputs need, and the places of the outputs among them; ``first`` is the index of the first
    node."""
    wanted = set(outputs.values())
    for i in reversed(range(len(nodes))):
        if first + i in wanted:
            wanted.update(_references([nodes[i]["args"], list(nodes[i].get("named", {}).values())]))
    kept = [i for i in range(len(nodes)) if first + i in wanted]
    places = {first + i: first + k for k, i in enumerate(kept)}

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: places.get(each, each) if key == "r" else moved(each) for key, each in value.items()}
        return [moved(each) for each in value] if isinstance(value, list) else value

    return [moved(nodes[i]) for i in kept], {name: places.get(place, place) for name, place in outputs.items()}


def _references(value: Any) -> set[int]:
    if isinstance(value, dict):
        return {value["r"]} if "r" in value else set()
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def _kind(dtype: torch.dtype) -> str:
    """The page's name for the kind of a tensor."""
    return {torch.float64: "d", torch.bool: "b"}.get(dtype, "f" if dtype.is_floating_point else "i")


def _node(op: str, args: list[Any], named: dict[str, Any]) -> dict[str, Any]:
    return {"op": op, "args": args} | ({"named": named} if named else {})


def _name(target: Any) -> str:
    """The page's name for an operator."""
    if target in SYMBOLS:
        return f"python.{SYMBOLS[target]}"
    if not hasattr(target, "_schema"):
        return f"python.{getattr(target, '__name__', target)}"
    space, name = target._schema.name.split("::")
    overload = target._schema.overload_name
    full = f"{name}.{overload}" if overload else name
    short = full if full in OVERLOADS else name
    return short if space == "aten" else f"{space}.{short}"


def _positional(node: Any) -> tuple[list[Any], Mapping[str, Any]]:
    """The arguments of a node; those that have no position are given by name."""
    if not hasattr(node.target, "_schema"):
        return list(node.args), {}
    args, named = list(node.args), {k: v for k, v in node.kwargs.items() if v is not None}
    placed = {argument.name for argument in node.target._schema.arguments if not argument.kwarg_only}
    for argument in node.target._schema.arguments[len(args) :]:
        if argument.kwarg_only or not named.keys() & placed:
            break
        args.append(named.pop(argument.name, argument.default_value))
    return args, {name: value for name, value in named.items() if name in NAMED}


def _is_random(target: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def _stored(constant: Tensor, half: bool) -> tuple[str, np.ndarray]:
    """(the page's kind of the tensor; its numbers as they are stored)."""
    x = constant.detach().cpu()
    kind = _kind(x.dtype)
    numbers = x.double().numpy()
    if kind in "di":
        return kind, numbers
    is_large = x.ndim > 1 and x.numel() >= SMALL and bool((np.abs(numbers) < HALF).all())
    return kind, numbers.astype(np.float16 if half and kind == "f" and is_large else np.float32)
