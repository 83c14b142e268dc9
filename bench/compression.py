"""Lossless compression: the size of files of `latens compress`, compared with -ELBO and with other codecs, and the
speed.

    python bench/compression.py [--cases fashion,adult,diamonds,magic] [--epochs 10] [--folder FOLDER]
    python bench/compression.py --table docs/benchmarks.md                  write the page's table from kept figures

Fashion-MNIST: latens is fitted to the 60,000 training images and compresses 1,000 and all 10,000 test images. The other
codecs get the same images as one grey picture, 1, 20 or 100 images wide, of which the smallest file counts (PNG, WebP,
JPEG-LS and JPEG XL of `imagecodecs` at their highest effort; xz on the bytes). Tables: latens is fitted to all rows and
compresses the same rows; the comparison is Parquet with zstd -19. A run that is in the folder is used again, so that a
stopped script continues. Speed is in processor seconds of one thread. Every file is decoded and compared with its rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import lzma
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import stream
from anomaly import code
from kept import circumstances, conditions, keep, lines
from speed.tables import put

RESULTS = Path(__file__).parent / "results" / "compression.jsonl"
CASES = ("fashion", "adult", "diamonds", "magic")
WIDTHS = (1, 20, 100)  # widths of a sheet, in images
OTHERS = {
    "PNG": ("png_encode", {"level": 9}), "WebP": ("webp_encode", {"lossless": True, "level": 100, "method": 6}),
    "JPEG-LS": ("jpegls_encode", {}), "JPEG XL": ("jpegxl_encode", {"lossless": True, "effort": 9}),
}  # fmt: skip


def fitted(data: Path, name: str, epochs: int, folder: Path) -> Path:
    """The folder of a fitted run; the fit is made if the folder is missing."""
    run = folder / f"{name}-{epochs or 'default'}"
    if not (run / "report.html").exists():
        words = ("--resume", str(run)) if run.exists() else ("fit", str(data), "--out", str(run))
        stream.child(*(("fit", *words) if run.exists() else words), *(("--epochs", str(epochs)) if epochs else ()))
    return run


def coded(codec: Any, x: Any, cells: int, equal: Callable[[Any, Any], bool]) -> tuple[bytes, dict[str, float]]:
    """(the file, million dimensions per second of encoding and of decoding); stops the script if decoded rows
    differ."""
    start = time.process_time()
    data = codec.encode(x)
    middle = time.process_time()
    back = codec.decode(data)
    end = time.process_time()
    if not equal(back, x):
        raise SystemExit("what was decoded is not what was encoded")
    return data, {"encode": cells / (middle - start) / 1e6, "decode": cells / (end - middle) / 1e6}


def sheets(x: np.ndarray) -> dict[str, int]:
    """The number of bytes that each of the other codecs takes for images ``[N, 28, 28]``."""
    found = {"lzma": len(lzma.compress(x.tobytes(), preset=9 | lzma.PRESET_EXTREME))}
    if importlib.util.find_spec("imagecodecs") is None:
        print("PNG, WebP, JPEG-LS and JPEG XL are left out: pip install imagecodecs")
        return found
    import imagecodecs

    for name, (function, options) in OTHERS.items():
        sizes = []
        for width in (width for width in WIDTHS if len(x) % width == 0):
            sheet = x.reshape(-1, width, *x.shape[1:]).swapaxes(1, 2).reshape(-1, width * x.shape[2])
            sheet = np.repeat(sheet[..., None], 3, -1) if name == "WebP" else np.ascontiguousarray(sheet)
            if max(sheet.shape) < (16384 if name == "WebP" else 65536):
                sizes.append(len(getattr(imagecodecs, function)(sheet, **options)))
        if sizes:
            found[name] = min(sizes)
    return found


def images(files: Path, epochs: int, folder: Path) -> None:
    """The figures of Fashion-MNIST."""
    import torch

    from latens import evaluation
    from latens.runs import record
    from latens.runs.outputs import schema_of

    run_folder = fitted(datasets.FASHION / "train-images-idx3-ubyte.gz", "fashion", epochs, folder)
    run, x = record.load(str(run_folder)), datasets.fashion(files)[1].x
    codec = run.codec()
    for rows in (1000, len(x)):
        some = x[:rows]
        data, speed = coded(codec, some, some.size, np.array_equal)
        inside = torch.from_numpy(schema_of(run).to_model(some))
        ideal = -evaluation.elbo(run.model, inside).elbo / math.log(2) / some[0].size
        keep_(run, f"Fashion-MNIST, {rows:,} test images", epochs, len(data), 8 * len(data) / some.size,
              rows=rows, cells=some.size, ideal=ideal, speed=speed, others=sheets(some))  # fmt: skip


def table(name: str, files: Path, epochs: int, folder: Path) -> None:
    """The figures of one table."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from latens.runs import record

    found = getattr(datasets, name)(files)
    found = found if isinstance(found, pa.Table) else pa.Table.from_pandas(found, preserve_index=False)
    packed, path = io.BytesIO(), folder / f"{name}.parquet"
    parquet.write_table(found, packed, compression="zstd", compression_level=19)
    path.write_bytes(packed.getvalue())
    run = record.load(str(fitted(path, name, epochs, folder)))
    cells = found.num_rows * found.num_columns
    data, speed = coded(run.codec(), found, cells, lambda one, other: one.equals(other))
    others = {"Parquet": len(packed.getvalue()), "lzma": len(lzma.compress(path.read_bytes(), preset=9))}
    keep_(run, f"{name}, {found.num_rows:,} rows x {found.num_columns}", epochs, len(data),
          8 * len(data) / found.num_rows, rows=found.num_rows, cells=cells, speed=speed, others=others)  # fmt: skip


def keep_(run: Any, case: str, epochs: int, size: int, bits: float, **more: Any) -> None:
    model = sum(value.nbytes for value in run.model.state_dict().values())
    line = {"case": case, "epochs": run.settings.epochs if epochs == 0 else epochs, "default": epochs == 0,
            "bytes": size, "bits": bits, "model": model, **more, "code": code(),
            **circumstances("torch", "numpy", "imagecodecs")}  # fmt: skip
    keep(RESULTS, line, ("case", "default"), lambda each: (each["case"], each["default"]))
    print(markdown(lines(RESULTS)))


def _row(line: dict[str, Any]) -> str:
    best, least = min(line["others"].items(), key=lambda each: each[1])
    named = ", ".join(f"{name} {size:,}" for name, size in line["others"].items())
    saved = (least - line["bytes"]) / line["rows"]
    even = f"{math.ceil(line['model'] / saved):,} rows" if saved > 0 else "never"
    over = "" if line.get("ideal") is None else f"+{100 * (line['bits'] / line['ideal'] - 1):.2f} %"
    return " | ".join([
        line["case"], f"{line['epochs']}{' (default)' if line['default'] else ''}", f"{line['bytes']:,}",
        f"{line['bits']:.4g} {'per row' if line.get('ideal') is None else 'per dimension'}", over, named,
        f"{line['bytes'] / least:.3f} ({best})", even,
        f"{line['speed']['encode']:.2f}, {line['speed']['decode']:.2f}",
    ])  # fmt: skip


def markdown(found: list[dict[str, Any]]) -> str:
    rows = ["| data | epochs of the fit | bytes of the file | bits | over -ELBO | others, bytes "
            "| size relative to the best other | break-even, with the model included "
            "| encode, decode: million dimensions per processor second |",
            "|---|" + "---|" * 8]  # fmt: skip
    return "\n".join([*rows, *(f"| {_row(line)} |" for line in found), "",
                      conditions(found, [line["code"] for line in found])])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="compress these data sets, separated by commas")
    parser.add_argument("--epochs", type=int, default=0, help="fit for this many epochs; 0: the default")
    parser.add_argument("--files", type=Path, default=Path("bench/data"), help="find data files here")
    parser.add_argument("--folder", type=Path, default=Path("bench/data/compression"), help="keep runs and data here")
    parser.add_argument("--table", type=Path, metavar="PAGE", help="put the table of the kept figures into this page")
    options = parser.parse_args()
    if options.table:
        text = markdown(lines(RESULTS))
        options.table.write_text(put(text, options.table.read_text("utf-8"), "compression"), "utf-8")
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for case in options.cases.split(","):
        if case not in CASES:
            raise SystemExit(f"no case {case!r}: choose from {', '.join(CASES)}")
        make = images if case == "fashion" else lambda *words, case=case: table(case, *words)
        try:
            make(options.files, options.epochs, options.folder)
        except datasets.Absent as absent:
            print(f"{case} is left out: {absent}")


if __name__ == "__main__":
    main()
