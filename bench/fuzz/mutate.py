"""Ways to alter files but keep their structure: JSON, safetensors, .npy, .zip, gzip, .latens, text, and any bytes."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**12, -(10**12), 2**31, 2**60, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, 1e-320,
    float("inf"), float("nan"), "", "a", "../x", "/etc/passwd", "\x00", "\x1b[31m", "<script>", "os:system", "\ud800",
    "é" * 3, "a" * 5000, "1e999", "nan", "auto", [], {}, [[]], [None], [1, "a"], {"a": 1}, {"float": "nan"},
    {"float": "x"}, {"float": 1}, [0] * 1000,
)  # fmt: skip
CELLS = (
    "", "0", "-1", "1e400", "1e308", "nan", "inf", "-inf", "NA", "\x00", '"', '""', '"a', "a\nb", "=1+1", "1,5",
    "9999-12-31", "0000-00-00", "2024-02-30", "24:00:00", "12345678901234567890123", "true", "\u202e", "1.5.5",
    "a" * 5000, "<b>",
    "0x1F", "1_000", "\ufeff", "\x1b[2J", "$1,000", "50%", "1e5", "+-3", "٣", "\r",
)  # fmt: skip
SIZES = (0, 1, 2, 7, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
Mutator = Callable[[bytes, random.Random], bytes]


def any_bytes(data: bytes, rng: random.Random) -> bytes:
    """Flip bits and cut, insert and repeat bytes, whatever the structure."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place, what = rng.randrange(len(found) + 1), rng.randrange(7)
        if what == 0 and place < len(found):
            found[place] ^= 1 << rng.randrange(8)
        elif what == 1 and place < len(found):
            found[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif what == 2:
            del found[place:]
        elif what == 3:
            del found[place : place + rng.choice((1, 2, 8, 100))]
        elif what == 4:
            found[place:place] = rng.choice((b"\0", b"\xff" * 4, found[: rng.randrange(64)], bytes(rng.randrange(300))))
        else:
            code = rng.choice(("<I", ">I", "<Q", ">Q", "<H", ">H", "<i", "<q"))
            value = rng.choice(SIZES) & (256 ** struct.calcsize(code) - 1)
            packed = struct.pack(code.upper(), value)
            found[place : place + len(packed)] = packed
    return bytes(found)


def json_value(value: Any, rng: random.Random) -> Any:
    """The value with a few of its nodes changed, removed, repeated, swapped or buried."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(value, rng)
    return value


def _changed(root: Any, rng: random.Random) -> Any:
    nodes: list[tuple[Any, Any]] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, item in inner:
            nodes.append((node, key))
            waiting.append(item)
    if not nodes:
        return rng.choice(ODD)
    node, key = rng.choice(nodes)
    what, old = rng.randrange(8), node[key]
    if what == 0:
        del node[key]
    elif what == 1 and isinstance(node, list):
        node[key:key] = [old] * rng.choice((1, 2, 100))
    elif what == 2:
        other, place = rng.choice(nodes)
        if not isinstance(old, dict | list) and key in (node if isinstance(node, dict) else range(len(node))):
            with_key = place in (other if isinstance(other, dict) else range(len(other)))
            if with_key and not isinstance(other[place], dict | list):
                node[key], other[place] = other[place], old
    elif what == 3 and isinstance(old, int | float) and not isinstance(old, bool):
        node[key] = rng.choice((-old, old + 1, old - 1, old * 1000, old / 3, str(old), [old]))
    elif what == 4 and isinstance(old, str):
        node[key] = rng.choice((old + "x", old[:-1], old.upper(), old * 500, old + "\n", [old]))
    elif what == 5 and isinstance(node, dict):
        node[rng.choice(("a", "float", "name", "\x00", f"{key}{key}"))] = rng.choice(ODD)
    else:
        node[key] = rng.choice(ODD)
    return root


def json_text(data: bytes, rng: random.Random) -> bytes:
    """JSON with a changed value, a repeated key, deep nesting, or changed bytes."""
    what = rng.randrange(12)
    if what == 0:
        return any_bytes(data, rng)
    if what == 1:
        depth = rng.choice((500, 5000, 100_000))
        return rng.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth))
    if what == 2:
        return data.replace(b"{", b'{"format": 1, "format": 2,', 1)
    try:
        return json.dumps(json_value(json.loads(data), rng)).encode("utf-8", "surrogatepass")
    except (ValueError, OverflowError):
        return any_bytes(data, rng)


def safetensors(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with a changed header, header length, or bytes."""
    if rng.random() < 0.3 or len(data) < 8:
        return any_bytes(data, rng)
    (size,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + size], data[8 + size :]
    header = json_text(header, rng)
    length = rng.choice((*SIZES, *[len(header)] * 40))
    return struct.pack("<Q", length) + header + rest


def npy(data: bytes, rng: random.Random) -> bytes:
    """An .npy file whose header has another shape, type, order or length."""
    match = re.match(rb"(\x93NUMPY..)(..)(\{[^\n]*\n)", data, re.DOTALL)
    if match is None or rng.random() < 0.3:
        return any_bytes(data, rng)
    header = match[3].decode("latin-1")
    what = rng.randrange(5)
    if what == 0:
        shapes = ("()", "(0,)", "(-1,)", "(2**60,)", "(1152921504606846976,)", "(10, -1)", "(3,)" * 2, "None",
                  "(" + "1," * 70 + ")", "(4294967296, 4294967296)", "(0, 10000000000000)",
                  "(" * 300 + ")" * 300)  # fmt: skip
        header = re.sub(r"'shape': \([^)]*\)", f"'shape': {rng.choice(shapes)}", header)
    elif what == 1:
        kinds = ("'O'", "'|O'", "'<f8'", "'>f4'", "'<U0'", "'|S0'", "'<M8[ns]'", "'<m8'", "'<c16'", "'|V0'",
                 "'|b1'", "[('a', '<f8')]", "[('a', 'O')]", "'<U1000000000'", "('<f8', (1000000000,))", "'f16'",
                 "None", "''",
                 "[('a', '<f8', (2,)), ('a', '<i4')]", "'<f8' * 3")  # fmt: skip
        header = re.sub(r"'descr': '[^']*'", f"'descr': {rng.choice(kinds)}", header)
    elif what == 2:
        header = header.replace("False", rng.choice(("True", "None", "3", "__import__('os')")))
    else:
        return match[1] + any_bytes(match[2] + match[3], rng) + data[match.end() :]
    return match[1] + struct.pack("<H", len(header)) + header.encode("latin-1") + data[match.end() :]


def zipped(data: bytes, rng: random.Random) -> bytes:
    """A zip file in which one member is changed, repeated, renamed, or packed differently."""
    if rng.random() < 0.4:
        return any_bytes(data, rng)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:
        return any_bytes(data, rng)
    if not members:
        return any_bytes(data, rng)
    place = rng.randrange(len(members))
    name, content = members[place]
    what = rng.randrange(5)
    if what == 0:
        members.append((name, content))
    elif what == 1:
        members[place] = (rng.choice(("../x.npy", "/x.npy", "", "x\x00.npy", "a" * 300, "\x1b[31m.npy", "x")), content)
    else:
        members[place] = (name, npy(content, rng))
    out = io.BytesIO()
    packing = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, content in members:
            archive.writestr(name or "x", content)
    return out.getvalue()


def table_text(data: bytes, rng: random.Random) -> bytes:
    """A csv with odd cells, names, separators, quotes or encodings."""
    if rng.random() < 0.25:
        return any_bytes(data, rng)
    lines = data.decode("utf-8", "replace").split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        row = rng.choice((0, rng.randrange(len(lines))))
        cells = lines[row].split(",")
        what, column = rng.randrange(9), rng.randrange(len(cells))
        if what == 0:
            cells.append(rng.choice(CELLS))
        elif what == 1:
            del cells[column]
        elif what == 2:
            cells[column] = cells[rng.randrange(len(cells))] if cells else ""
        elif what == 3:
            lines = [_with_cell(line, column, rng.choice(CELLS)) for line in lines]
            continue
        elif what == 4:
            cells = cells * rng.choice((2, 50))
        else:
            cells[column] = rng.choice(CELLS)
        lines[row] = ",".join(cells)
    text = "\n".join(lines)
    if rng.random() < 0.15:
        text = text.replace(",", rng.choice((";", "\t", "|", " ", ",,", ", ")))
    if rng.random() < 0.05:
        text = text.replace("\n", rng.choice(("\r\n", "\r", "\n\n")))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8", "utf-16", "utf-32", "utf-8-sig", "latin-1"))
    return text.encode(encoding, "replace")


def _with_cell(line: str, column: int, cell: str) -> str:
    cells = line.split(",")
    return ",".join([*cells[:column], cell, *cells[column + 1 :]])


def packed(inner: Mutator) -> Mutator:
    """A gzip file, altered in its content or in its own bytes."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.4:
            return any_bytes(data, rng)
        try:
            return gzip.compress(inner(gzip.decompress(data), rng), 1)
        except (OSError, EOFError, ValueError):
            return any_bytes(data, rng)

    return mutate


def latens(data: bytes, rng: random.Random) -> bytes:
    """A .latens file with a changed head, block or residue, and checksums that match the change."""
    if rng.random() < 0.2:
        return any_bytes(data, rng)
    try:
        size = int.from_bytes(data[8:12], "little")
        head, at = json.loads(zlib.decompress(data[12 : 12 + size])), 20 + size
        blocks = []
        for rows, length in head["blocks"]:
            blocks.append([rows, data[at : at + length]])
            at += length
        residue = data[at : at + head["residue"]]
    except Exception:
        return any_bytes(data, rng)
    what = rng.randrange(5)
    if what == 0 and blocks:
        block = rng.choice(blocks)
        body = any_bytes(block[1][:-16], rng)
        block[1] = body + _digest(body) + block[1][-8:]
    elif what == 1:
        blocks = rng.choices(blocks, k=rng.choice((0, 1, 2, 50)))
    elif what == 2 and residue:
        residue = zlib.compress(_arrays(zlib.decompress(residue), rng), 1)
    elif what == 3:
        residue = rng.choice((b"", zlib.compress(bytes(10**8), 9), any_bytes(residue, rng)))
    head |= {"blocks": [[rows, len(block)] for rows, block in blocks], "residue": len(residue)}
    head["rows"] = sum(rows for rows, _ in blocks)
    packed_head = json.dumps(head).encode()
    if what == 4:
        packed_head = json_text(packed_head, rng)
    packed_head = zlib.compress(packed_head, 1)
    parts = [data[:8], struct.pack("<I", len(packed_head)), packed_head, _digest(packed_head)]
    return b"".join([*parts, *(block for _, block in blocks), residue, _digest(residue)])


def _arrays(data: bytes, rng: random.Random) -> bytes:
    """Named arrays with another header, or other bytes."""
    if rng.random() < 0.5:
        return any_bytes(data, rng)
    (length,) = struct.unpack_from("<I", data)
    head = json_text(data[4 : 4 + length], rng)
    return struct.pack("<I", len(head)) + head + data[4 + length :]


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()
