"""Traced programs with fewer operations, since every step after tracing takes time for each operation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node

MOST = 1 << 16  # a constant has at most this many numbers, or as many as the values that it is computed from
ATEN = torch.ops.aten
IDLE = {ATEN.to.dtype, ATEN.expand.default, ATEN.lift_fresh_copy.default, ATEN.detach_.default}
CHECKS = {ATEN._assert_tensor_metadata.default}


def simplified(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same program object with fewer operations: none is computed twice, none returns its input, and values that do
    not depend on the inputs are constants. A program that draws or changes tensors in place is not simplified.
    """
    parts = [part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
    if any(map(_changes, (node for part in parts for node in part.nodes))):
        return program
    known = _weights(program)
    with torch.no_grad():
        _shorten(program.graph, known)
    _hold(program, known)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()
    return program


def _shorten(graph: torch.fx.Graph, known: dict[Node, Any]) -> None:
    """Erase operations whose value another node has, and add values that depend only on known ones to ``known``."""
    found: dict[Any, Node] = {}
    kept = {node for output in graph.find_nodes(op="output") for node in output.all_input_nodes}
    for node in [node for node in graph.nodes if node.op == "call_function"]:
        same = None if node.target in CHECKS else _same(node, found)
        if same is not node and node not in kept:
            if same is not None:
                node.replace_all_uses_with(same)
            graph.erase_node(node)
        elif all(each in known for each in node.all_input_nodes):
            _compute(node, known)


def _same(node: Node, found: dict[Any, Node]) -> Any:
    """The node that has the value of this one: its input, an earlier one from ``found``, or itself."""
    key = (node.target, *map(_frozen, (node.args, node.kwargs)))
    return node.args[0] if _is_idle(node) else found.setdefault(key, node)


def _changes(node: Node) -> bool:
    """Whether the operation changes a tensor in place, or draws."""
    is_mutable = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
    is_random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    return is_random or (is_mutable and node.target not in IDLE)


def _weights(program: torch.export.ExportedProgram) -> dict[Node, Any]:
    """{input of the graph: its value} for weights, buffers and constants, which are not inputs of the program."""
    signature, state = program.graph_signature, {**program.constants, **program.state_dict}
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers,
             **signature.inputs_to_lifted_tensor_constants}  # fmt: skip
    return {node: state[names[node.name]] for node in program.graph.find_nodes(op="placeholder") if node.name in names}


def _frozen(value: Any) -> Any:
    """A value that can be a key, with the types of its numbers, since 1 == 1.0 == True."""
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((key, _frozen(each)) for key, each in value.items())
    return (type(value), repr(value) if isinstance(value, float) else value)


def _is_idle(node: Node) -> bool:
    """Whether the operation returns its input: a conversion to the type or the shape that the input has."""
    if node.target not in IDLE:
        return False
    given, made = node.args[0].meta["val"], node.meta["val"]  # type: ignore[union-attr]
    return given.dtype == made.dtype and str(given.shape) == str(made.shape)  # == would fix the number of rows


def _compute(node: Node, known: dict[Node, Any]) -> None:
    """Compute the value of the operation and add it to ``known``, unless it is too large."""
    args: Any = torch.fx.map_arg(node.args, known.__getitem__)
    named: Any = torch.fx.map_arg(node.kwargs, known.__getitem__)
    value = node.target(*args, **named)  # type: ignore[operator]
    size = sum(known[each].numel() for each in node.all_input_nodes if isinstance(known[each], Tensor))
    if not isinstance(value, Tensor) or value.numel() <= max(MOST, size):
        known[node] = value


def _hold(program: torch.export.ExportedProgram, known: dict[Node, Any]) -> None:
    """Make the known tensors that other operations read constants of the program."""
    graph, specs = program.graph, program.graph_signature.input_specs
    first = next(i for i, spec in enumerate(specs) if spec.kind is InputKind.USER_INPUT)
    user = graph.find_nodes(op="placeholder")[first]
    held = [node for node, value in known.items() if node.op == "call_function" and isinstance(value, Tensor)
            and any(each not in known for each in node.users)]  # fmt: skip
    for i, node in enumerate(held):
        name = f"c_known_{i}"
        with graph.inserting_before(user):
            constant = graph.placeholder(name)
        constant.meta = {**node.meta, "val": node.meta["val"]}
        specs.insert(first + i, InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(constant.name), name, None))
        program.constants[name] = known[node].detach().clone().contiguous()
        node.replace_all_uses_with(constant, lambda use: use.op != "output")
