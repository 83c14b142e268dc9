"""The fuzzing targets: small valid files of every format that latens reads, and what is done with each."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.fuzz import mutate
from latens.cli.main import main
from latens.training.checkpoint import digest, loads, sealed, unseal

FEW = "few.csv"
USES = (  # of a run
    ("encode", "RUN", FEW, "--out", "out.csv"), ("sample", "RUN", "-n", "3", "--out", "out.csv"),
    ("score", "RUN", FEW, "--k", "2", "--out", "out.csv"), ("impute", "RUN", FEW, "--out", "out.csv"),
    ("reconstruct", "RUN", FEW, "--out", "out.csv"), ("evaluate", "RUN", FEW, "--k", "2"),
)  # fmt: skip


@dataclass
class Target:
    """A valid file, a way to alter it, and a function of (content, number) that uses it."""

    name: str
    seed: bytes
    mutate: mutate.Mutator
    use: Callable[[bytes, int], int]


def targets() -> list[Target]:
    """All targets; their files and runs are written to the working directory."""
    _tables()
    found = [*_data_files(), *_pictures(), *_of_runs()]
    return found


def _data(name: str) -> Callable[[bytes, int], int]:
    """Infer the schema of a file."""

    def use(content: bytes, number: int) -> int:
        Path(name).write_bytes(content)
        return main(["schema", name])

    return use


def _tables() -> None:
    rng = np.random.default_rng(0)
    lines = ["size,kind,when,mark,note"]
    for row in range(40):
        kind, mark = rng.choice(["a", "b", "c", ""]), rng.choice(["yes", "no"])
        lines.append(f"{rng.normal():.3f},{kind},2024-03-{row % 28 + 1:02d},{mark},{rng.integers(5)}")
    Path("table.csv").write_text("\n".join(lines) + "\n")
    Path(FEW).write_text("\n".join(lines[:6]) + "\n")


def _data_files() -> list[Target]:
    import h5py
    from pyarrow import csv, feather, ipc, parquet
    from scipy import sparse

    rng = np.random.default_rng(0)
    text = Path("table.csv").read_bytes()
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0, 4]) + bytes(range(144))
    np.save("a.npy", rng.normal(size=(20, 3)))
    np.save("b.npy", rng.integers(0, 9, (20, 2, 2)).astype("uint8"))
    np.savez("a.npz", x=rng.normal(size=(20, 3)), y=np.arange(20))
    np.savez_compressed("b.npz", x=np.zeros((200, 3)))
    sparse.save_npz("c.npz", sparse.random(20, 6, 0.3, format="csr"))
    table = csv.read_csv("table.csv")
    parquet.write_table(table, "a.parquet")
    parquet.write_table(table, "b.parquet", compression="zstd", use_dictionary=False)
    feather.write_feather(table, "a.feather", compression="uncompressed")
    feather.write_feather(table, "b.feather", compression="lz4")
    with ipc.new_stream("c.arrow", table.schema) as writer:
        writer.write_table(table)
    with h5py.File("a.h5ad", "w") as file:
        counts = sparse.random(12, 5, 0.4, format="csr", random_state=0)
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": np.array([12, 5])})
        group["data"], group["indices"], group["indptr"] = np.ceil(counts.data * 5), counts.indices, counts.indptr
        for name, size in (("obs", 12), ("var", 5)):
            frame = file.create_group(name)
            frame.attrs.update({"_index": "_index", "encoding-type": "dataframe", "column-order": np.array([], "S1")})
            frame["_index"] = np.array([f"{name}{i}" for i in range(size)], "S8")
    with zipfile.ZipFile("a.csv.zip", "w") as archive:
        archive.writestr("a.csv", text)
    kinds: dict[str, mutate.Mutator] = {
        "a.npy": mutate.npy, "b.npy": mutate.npy,
        "a.npz": mutate.zipped, "b.npz": mutate.zipped, "c.npz": mutate.zipped,
        "a.parquet": mutate.any_bytes, "b.parquet": mutate.any_bytes, "a.feather": mutate.any_bytes,
        "b.feather": mutate.any_bytes, "c.arrow": mutate.any_bytes, "a.h5ad": mutate.any_bytes,
        "a.csv.zip": mutate.any_bytes,
    }  # fmt: skip
    found = [Target(name, Path(name).read_bytes(), how, _data(f"fuzzed-{name}")) for name, how in kinds.items()]
    found += [
        Target("a.idx", idx, mutate.any_bytes, _data("fuzzed-images-idx3-ubyte")),
        Target("a.idx.gz", gzip.compress(idx), mutate.packed(mutate.any_bytes), _data("fuzzed-images-idx3-ubyte.gz")),
        Target("a.csv", text, mutate.table_text, _data("fuzzed.csv")),
        Target("b.csv", text, mutate.table_text, _data("fuzzed.csv")),
        Target("a.csv.gz", gzip.compress(text), mutate.packed(mutate.table_text), _data("fuzzed.csv.gz")),
        Target("few.csv", Path(FEW).read_bytes(), mutate.table_text, _of_rows),
    ]
    return found


def _pictures() -> list[Target]:
    from PIL import Image

    found = []
    pixels = (np.arange(16 * 16 * 3) % 251).reshape(16, 16, 3).astype("uint8")
    for kind in ("png", "jpg", "bmp", "gif", "tif", "webp"):
        for number in range(3):
            Path(f"images-{kind}").mkdir(exist_ok=True)
            Image.fromarray(np.roll(pixels, number)).save(f"images-{kind}/{number}.{kind}")

        def use(content: bytes, number: int, kind: str = kind) -> int:
            Path(f"images-{kind}/1.{kind}").write_bytes(content)
            return main(["schema", f"images-{kind}"])

        found.append(Target(kind, Path(f"images-{kind}/1.{kind}").read_bytes(), mutate.any_bytes, use))
    return found


# Runs


def _of_rows(content: bytes, number: int) -> int:
    """Read rows for a run that was fitted to other rows."""
    Path("rows.csv").write_bytes(content)
    return _call(number, "table-run", "rows.csv")


def _call(number: int, run: str, rows: str = FEW) -> int:
    words = USES[number % len(USES)]
    return main([{"RUN": run, FEW: rows}.get(word, word) for word in words])


def _of_runs() -> list[Target]:
    quiet = ("--epochs", "2", "--seed", "1")
    for words in (
        ("fit", "table.csv", "--out", "table-run", *quiet), ("fit", "a.npy", "--out", "array-run", *quiet),
        ("density", "table-run", "--kind", "mixture"), ("density", "table-run", "--kind", "kde"),
        ("fit", "b.npy", "--out", "levels-run", *quiet), ("compress", "levels-run", "b.npy", "--out", "a.latens"),
        ("compress", "table-run", "table.csv", "--out", "b.latens"),
    ):  # fmt: skip
        if main(list(words)):
            raise SystemExit(f"the seed {words} failed")
    found = []
    for run in ("table-run", "array-run"):
        record = unseal(Path(run, "run.json"), "")
        state = unseal(Path(run, "checkpoint/state.json"), "")
        weights = Path(run, "model.safetensors").read_bytes()
        found += [
            Target(f"{run}/run.json", _dumped(record), mutate.json_text, _record(run)),
            Target(f"{run}/state.json", _dumped(state), mutate.json_text,
                   _sealed(run, "checkpoint/state.json", _resume)),
            Target(f"{run}/model.safetensors", weights, mutate.safetensors, _digested(run, "model.safetensors")),
            Target(f"{run}/metrics.csv", Path(run, "metrics.csv").read_bytes(), mutate.table_text,
                   _digested(run, "metrics.csv")),
            Target(f"{run}/checkpoint", Path(run, "checkpoint", state["tensors"]).read_bytes(), mutate.safetensors,
                   _checkpoint(run)),
        ]  # fmt: skip
    calibration = Path("table-run/calibration.json")
    if calibration.exists():
        found.append(Target("calibration.json", _dumped(unseal(calibration, "")), mutate.json_text,
                            _sealed("table-run", "calibration.json", lambda run, n: _call(2, run))))  # fmt: skip
    for path in sorted(Path("table-run/densities").glob("*.json")):
        record = unseal(path, "")
        found.append(Target(path.name, _dumped(record), mutate.json_text,
                            _sealed("table-run", f"densities/{path.name}", _draw(path.stem))))  # fmt: skip
        tensors = Path("table-run/densities", record["tensors"])
        found.append(Target(f"{path.stem}.safetensors", tensors.read_bytes(), mutate.safetensors, _density(path.stem)))
    for name, run, out in (("a", "levels-run", "out.npz"), ("b", "table-run", "out.csv")):
        found.append(Target(f"{name}.latens", Path(f"{name}.latens").read_bytes(), mutate.latens, _rows_of(run, out)))
    return found


def _dumped(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode()


def _draw(kind: str) -> Callable[[str, int], int]:
    return lambda run, number: main(["sample", run, "-n", "3", "--density", kind, "--out", "out.csv"])


def _resume(run: str, number: int) -> int:
    return main(["fit", "--resume", run, "--json"])


def _copy(run: str) -> Path:
    shutil.rmtree("fuzzed-run", ignore_errors=True)
    shutil.copytree(run, "fuzzed-run")
    return Path("fuzzed-run")


def _seal(content: bytes) -> bytes:
    """The content with a valid checksum if it is a record; otherwise unchanged."""
    try:
        return sealed(loads(content.decode("utf-8", "surrogatepass"))).encode("utf-8", "surrogatepass")
    except Exception:
        return content


def _record(run: str) -> Callable[[bytes, int], int]:
    def use(content: bytes, number: int) -> int:
        (_copy(run) / "run.json").write_bytes(_seal(content))
        if number % 8 == 7:
            return main(["report", "fuzzed-run", FEW])
        return _call(number, "fuzzed-run")

    return use


def _sealed(run: str, name: str, then: Callable[[str, int], int]) -> Callable[[bytes, int], int]:
    def use(content: bytes, number: int) -> int:
        folder = _copy(run)
        (folder / name).write_bytes(_seal(content))
        if then is _resume:
            _unfinish(folder)
        return then("fuzzed-run", number)

    return use


def _unfinish(folder: Path) -> None:
    record = unseal(folder / "run.json", "")
    (folder / "run.json").write_text(sealed(record | {"status": "running", "files": {}}))


def _digested(run: str, name: str) -> Callable[[bytes, int], int]:
    def use(content: bytes, number: int) -> int:
        folder = _copy(run)
        (folder / name).write_bytes(content)
        record = unseal(folder / "run.json", "")
        record["files"][name] = digest(content)
        (folder / "run.json").write_text(sealed(record))
        return _call(number, "fuzzed-run")

    return use


def _checkpoint(run: str) -> Callable[[bytes, int], int]:
    def use(content: bytes, number: int) -> int:
        folder = _copy(run)
        _unfinish(folder)
        path = folder / "checkpoint" / "state.json"
        state = unseal(path, "")
        (folder / "checkpoint" / state["tensors"]).write_bytes(content)
        path.write_text(sealed(state | {"sha256": digest(content)}))
        return _resume("fuzzed-run", number)

    return use


def _rows_of(run: str, out: str) -> Callable[[bytes, int], int]:
    def use(content: bytes, number: int) -> int:
        Path("fuzzed.latens").write_bytes(content)
        return main(["decompress", run, "fuzzed.latens", "--out", out])

    return use


def _density(kind: str) -> Callable[[bytes, int], int]:
    def use(content: bytes, number: int) -> int:
        folder = _copy("table-run")
        path = folder / "densities" / f"{kind}.json"
        record = unseal(path, "")
        (folder / "densities" / record["tensors"]).write_bytes(content)
        path.write_text(sealed(record | {"sha256": digest(content)}))
        return _draw(kind)("fuzzed-run", number)

    return use
