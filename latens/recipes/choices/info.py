"""What a recipe may know about the data, and the choices that need only counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from latens.errors import InputError, is_whole, require
from latens.schema import AnySchema, Column, Schema, Table
from latens.tensors.trees import Tree

NETWORKS = ("auto", "mlp", "residual", "conv", "linear")
MAX_LATENT = 65_536  # the most dimensions: with more, the first layer alone would take gigabytes
CONV_SIDE = 12  # images at least this large on both sides, and sequences at least this long, get convolutions


@dataclass
class DataInfo:
    """What a recipe may know about the data.

    Args:
        schema: What each column or pixel is.
        rows: The number of rows.
        sample: Some rows ``[N, *shape]`` in the storage type; None if a run is rebuilt without its data.
        conditions: The columns that are given, not modelled.
        sample_c: The conditions of the sample, ``{name: [N]}``.
        choices: What "auto" became, ``{option: sentence}``, filled by the recipe.
        warnings: Sentences about options that have no effect, filled by the recipe.
    """

    schema: AnySchema
    rows: int
    sample: Tensor | None = None
    conditions: tuple[Column, ...] = ()
    sample_c: Tree = None
    choices: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a row."""
        return self.schema.shape

    @property
    def columns(self) -> int:
        """The number of cells of a row."""
        return self.schema.columns

    @property
    def is_table(self) -> bool:
        """Whether the data are a table of mixed columns."""
        return isinstance(self.schema, Table)

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the conditions, which every part reads."""
        return tuple(column.name for column in self.conditions)


def one_of(name: str, value: str, valid: Sequence[str]) -> str:
    """``value`` if it is valid; otherwise an ``InputError`` lists the valid values."""
    if value not in valid:
        raise InputError(f"{name} must be one of {', '.join(valid)}, got {value!r}")
    return value


def latent_size(info: DataInfo, latent_dim: int | str, name: str = "latent_dim") -> int:
    """The latent dimension: as given, or min(16, columns). ``name`` is the name of the option, for messages."""
    if latent_dim == "auto":
        size = min(16, info.columns)
        info.choices[name] = f"{name} = {size}: the smaller of 16 and the {info.columns} columns"
        return size
    good = is_whole(latent_dim) and 1 <= int(latent_dim) <= MAX_LATENT
    require(good, name, f"'auto' or a whole number from 1 to {MAX_LATENT:,}", latent_dim)
    if int(latent_dim) > info.columns:
        info.warnings.append(
            f"{name} = {latent_dim} is more than the {info.columns} columns of the data: the dimensions beyond that "
            "stay inactive"
        )
    return int(latent_dim)


def network_name(info: DataInfo, network: str) -> str:
    """The name of the network; "auto" becomes "conv" for images of at least 12 x 12 pixels and sequences of at least
    12 steps, otherwise "mlp". ``InputError`` for an unknown name."""
    one_of("network", network, NETWORKS)
    sequence = isinstance(info.schema, Schema) and info.schema.is_sequence
    large = info.schema.is_image and min(info.shape[-2:]) >= CONV_SIDE
    large = large or (sequence and info.shape[0] >= CONV_SIDE)
    if network == "auto":
        network = "conv" if large else "mlp"
        why = f"{info.columns} columns"
        if info.schema.is_image:
            why = f"images of {info.shape[-2]} x {info.shape[-1]} pixels"
        elif sequence:
            why = f"sequences of {info.shape[0]} steps"
        info.choices["network"] = f"network = {network}: {why}"
    if network == "conv" and not (info.schema.is_image or sequence):
        raise InputError(
            "network = conv needs images or sequences, but these data have columns",
            "pass --network mlp, residual or linear",
        )
    return network


def network_kind(info: DataInfo, network: str) -> str:
    """The name of the network in :mod:`latens.networks`, which calls convolutions over time "sequence"."""
    name = network_name(info, network)
    sequence = isinstance(info.schema, Schema) and info.schema.is_sequence
    return "sequence" if name == "conv" and sequence else name
