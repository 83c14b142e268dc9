"""A .latens file: a head that describes the content, blocks of rows, and whatever the model does not reproduce.

    magic, length of the head, head (JSON, deflated), its checksum, blocks, residue, checksum of the residue
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from latens.errors import InputError, is_whole

MAGIC = b"\x89latens\n"
FORMAT = 1
MOST_HEAD = 1 << 24
_REMEDY = "compress the data again, or restore the file from a copy"


@dataclass(frozen=True)
class Container:
    """The parts of a file.

    Args:
        head: a description of the content, always with "rows" and "run".
        blocks: pairs (number of rows, bytes).
        residue: whatever the model does not reproduce.
    """

    head: dict[str, Any]
    blocks: Sequence[tuple[int, bytes]]
    residue: bytes = b""

    def packed(self) -> bytes:
        """The file's bytes."""
        sizes = {"format": FORMAT, "blocks": [[rows, len(data)] for rows, data in self.blocks],
                 "residue": len(self.residue)}  # fmt: skip
        head = zlib.compress(json.dumps(self.head | sizes, separators=(",", ":")).encode(), 9)
        parts = [MAGIC, struct.pack("<I", len(head)), head, _digest(head), *(data for _, data in self.blocks)]
        return b"".join([*parts, self.residue, _digest(self.residue)])

    @classmethod
    def read(cls, data: bytes) -> Container:
        """The parts of a file from its bytes; ``InputError`` if they are damaged, or of a newer format."""
        if data[:8] != MAGIC:
            raise InputError("the file was not written by `latens compress`", "name a file that ends in .latens")
        head, at = _head(data)
        if head["format"] > FORMAT:
            raise InputError(
                f"the file has format {head['format']}, but this version of latens reads formats up to {FORMAT}",
                "update latens",
            )
        blocks = []
        for rows, size in head["blocks"]:
            blocks.append((rows, data[at : at + size]))
            at += size
        end = at + head["residue"]
        if end + 8 != len(data):
            less = end + 8 > len(data)
            raise InputError(f"the file is {'cut off' if less else 'followed by other data'}", _REMEDY)
        if _digest(data[at:end]) != data[end:]:
            raise damaged("a checksum does not match")
        return cls(head, blocks, data[at:end])


def damaged(why: str) -> InputError:
    """The error for a file that cannot be verified."""
    return InputError(f"the file is damaged ({why})", _REMEDY)


def _head(data: bytes) -> tuple[dict[str, Any], int]:
    size = int.from_bytes(data[8:12], "little")
    end = 12 + size
    if len(data) < end + 8:
        raise InputError("the file is cut off", _REMEDY)
    if size > MOST_HEAD or _digest(data[12:end]) != data[end : end + 8]:
        raise damaged("a checksum does not match")
    try:
        opened = zlib.decompressobj()
        text = opened.decompress(data[12:end], MOST_HEAD)
        head = json.loads(text)
        if opened.unconsumed_tail or not isinstance(head, dict):
            raise ValueError
    except (zlib.error, ValueError, RecursionError):
        raise damaged("its head cannot be read") from None
    if not _is_sound(head):
        raise damaged("its head is not valid")
    return head, end + 8


def _is_sound(head: dict[str, Any]) -> bool:
    """Whether the entries of a head have the right types and agree with each other."""
    whole = [head.get(name) for name in ("format", "rows", "residue")]
    if not all(is_whole(value) and value >= 0 for value in whole) or not isinstance(head.get("run"), str):
        return False
    blocks: Any = head.get("blocks")
    if not isinstance(blocks, list) or not all(isinstance(block, list) and len(block) == 2 for block in blocks):
        return False
    return all(is_whole(n) and n > 0 for block in blocks for n in block) and sum(n for n, _ in blocks) == head["rows"]


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
