"""Every mistake gets one sentence that says what is wrong, where, and what to do; no file is half-written or lost."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import SHORT, call, done, refused

import latens
from latens import InputError, conditionals, models, objectives, priors
from latens.data import read
from latens.data.rows import as_table
from latens.data.tables.files import read_table
from latens.machine.atomic import write_text
from latens.training.checkpoint import loads, sealed

pytestmark = pytest.mark.usefixtures("one_thread", "in_place")

WORDS = {  # the arguments of `latens`, and what the sentence must say
    "fti iris": "no command fti.*'fit'",
    "fit": "DATA and --out RUN",
    "fit iris": "--out RUN",
    "fit iris wine --out x": "wine",
    "fit iris --out x -q": "-q",
    "fit nothing --out x": "nothing does not exist.*digits, wine",
    "fit digit --out x": "did you mean digits",
    "fit iris-run --out x": "iris-run is the folder of a run, not data",
    "fit iris --out iris-run": "already holds a run.*latens fit --resume iris-run",
    "fit iris --out seeds-run --seeds 2": "already holds a run.*--resume seeds-run",
    "fit iris --out iris.npy": "iris.npy is a file",
    "fit iris --out iris.npy/run": "cannot be created",
    # options
    "fit iris --out x --bta 3": "--bta.*did you mean --beta",
    "fit iris --out x --epoch 3": "--epoch .*did you mean --epochs",
    "fit --latentdim 3 iris --out x": "--latentdim.*did you mean --latent-dim",
    "fit iris --out x --k 5": "--k.*iwae.*'vae' has --latent-dim",
    "fit iris --out x --recipe ae --beta 2": "--beta.*'ae' has --latent-dim, --network",
    "fit iris --out x --beta": "--beta needs a value",
    "fit iris --out x --kl --beta 2": "--kl needs a value",
    "fit iris --out x --bta": "--bta.*did you mean --beta",
    "fit iris --out x --beta -1": "beta must be a number from 0, got -1",
    "fit iris --out x --beta nan": "beta must be",
    "fit iris --out x --beta inf": "beta must be",
    "fit iris --out x --beta much": "beta must be a number from 0, got 'much'",
    "fit iris --out x --samples 1.5": "samples must be a whole number",
    "fit iris.npy --out x --variance 0": "variance must be a positive number",
    "fit iris.npy --out x --variance much": "variance must be a positive number, 'learned' or 'optimal'",
    "fit iris --out x --likelihood bernoulli": "has its own.*--column NAME=bernoulli",
    "fit iris.npy --out x --likelihood bernoulli": "bernoulli.*0 and 1.*discretized_logistic",
    "fit digits --out x --likelihood bernoulli": "bernoulli.*17 levels",
    "fit iris --out x --likelihood gauss": "normal, bernoulli, categorical",
    "fit iris --out x --network conv": "needs images",
    "fit iris --out x --posterior point": "point posterior.*'ae'",
    "fit iris --out x --kl exact": "'closed' or 'sampled'",
    "fit iris --out x --latent-dim 0": "latent_dim must be 'auto' or a whole number from 1",
    "fit iris --out x --latent-dim 1000000000": "latent_dim must be 'auto' or a whole number from 1 to 65,536",
    "fit iris --out x --latent-dim 2.5": "--latent-dim.*whole number",
    "fit iris --out x --recipe vea": "unknown recipe 'vea' .did you mean vae.*latens recipes",
    "fit iris --out x --recipe iwae --k 2.5": "k must be a whole number",
    "fit iris --out x --epochs 0": "epochs must be 'auto' or a whole number from 1",
    "fit iris --out x --batch-size 0": "batch_size must be",
    "fit iris --out x --learning-rate nan": "learning_rate must be 'auto' or a positive number",
    "fit iris --out x --learning-rate fast": "--learning-rate",
    "fit iris --out x --kl-warmup 2": "kl_warmup must be a fraction",
    "fit iris --out x --average 1": "average must be",
    "fit iris --out x --seed -1": "--seed",
    "fit iris --out x --seeds 0": "--seeds",
    "fit iris --out x --seeds 2 --beta -1": "beta must be",
    "fit iris --out x --compile maybe": "--compile.*neither 'auto' nor yes or no",
    "fit iris --out x --device nonsense": "unknown device 'nonsense'.*cpu",
    "fit iris --out x --device meta": "'meta' cannot be used here.*cpu",
    "fit iris --out x --validation 1.5": "validation must be",
    "fit iris --out x --validation 0.001": "leaves none of",
    "fit iris --out x --validation wine": "wine has no column 'sepal length",
    "fit iris --out x --validation levels.npy": "levels.npy.*shape",
    "fit iris --out x --labels nope": "iris has no labels 'nope'",
    "fit iris --out x --drop nope": "no column 'nope'",
    "fit iris --out x --from nope": "nope does not exist",
    "fit iris --out x --from seeds-run": "several seeds.*seed-0",
    "fit iris --out x --from digits-run": "digits-run.*same structure",
    "fit iris --out x --from array-run": "array-run.*same s",
    "fit iris.npy --out x --from digits-run": "digits-run.*has shape.*of the same shape",
    "fit iris --out x --from ae-run": "ae-run.*same s",
    "fit iris --out x --weights weights-short.npy": r"weights-short.npy.*one number per row, \[150\]",
    "fit iris --out x --weights weights-wide.npy": "one number per row",
    "fit iris --out x --weights weights-negative.npy": "non-negative",
    "fit iris --out x --weights weights-zero.npy": "all of sample_weight is zero",
    "fit iris --out x --weights weights-nan.npy": "finite",
    "fit iris --out x --weights absent.npy": "absent.npy does not exist",
    "fit iris --out x --weights weights-text.csv": "weights-text.csv: the weights are texts or dates.*one number per",
    "fit iris --out x --weights weights-gap.csv": "weights-gap.csv: .*got nan in row 1 ",
    "fit iris --out x --weights weights-mixed.csv": "weights-mixed.csv: column 'w' holds numbers, but row 1 is 'much'",
    "fit iris --out x --weights labelled.csv": "labelled.csv: .*5 columns .kind, .*one column",
    # labels of a table
    "fit labelled.csv --out x --labels kind --condition kind": "--labels kind takes .*--condition.*omit --labels",
    "fit labelled.csv --out x --labels kind --column kind=binary": "--labels kind takes .*--column.*omit --labels",
    "fit labelled.csv --out x --labels kind --condition label": "'label' is for arrays and images.*--condition COLUMN",
    "evaluate iris-run --labels nope": "--labels needs DATA",
    # options of data of another kind
    "fit iris.npy --out x --kind continuous --column column_1=positive": "--kind reads .*--column needs columns",
    "fit iris.npy --out x --layout vector --condition column_1": "--layout reads .*--condition needs columns",
    "fit iris.npy --out x --encoding latin-1": "--encoding is for text .*iris.npy is something else: omit --encoding",
    "fit iris.npy --out x --layer raw/X": "--layer is for an .h5ad, but iris.npy is something else",
    "fit iris --out x --layer raw/X": "--layer is for an .h5ad, but iris is something else",
    "fit digits --out x --size 4x4": "--size is for a folder of images, but digits is something else",
    "fit labelled.csv --out x --size 4x4": "--size is for a folder of images, but labelled.csv is something else",
    "fit labelled.csv --out x --skip-bad": "--skip-bad is for a folder of images, but labelled.csv is something else",
    "fit labelled.csv --out x --layer X": "--layer is for an .h5ad, but labelled.csv is something else",
    "fit absent.npy --out x --layer X": "absent.npy does not exist",
    "fit iris.npy --out x --kind counts": "the kind must be one of auto, continuous, .*, got 'counts'",
    "fit iris.npy --out x --layout CWH": "must be one of auto, vector, .*, got 'CWH'",
    "schema iris.npy --encoding latin-1": "--encoding is for text",
    **{f"fit digits --out x --size {size}": "--size must be HEIGHTxWIDTH in pixels, each from 1 to 4,096"
       for size in ("5x0", "0x5", "0", "1000000x1000000", "4,4", "-3x3")},
    # more than memory can hold
    "sample iris-run --out o.npy -n 99999999999999": "99,999,999,999,999 samples would take .* GiB .*ask for fewer",
    "encode iris-run few.npy --out o.npy --samples 99999999999999": "draws per row would take .* GiB .*ask for fewer",
    "impute iris-run nan.npy --out o.npy --draws 99999999999999": "filled copies would take .* GiB .*ask for fewer",
    # recipes of users
    "fit iris --out x --recipe :function": "cannot be imported",
    "fit iris --out x --recipe no_package:function": "'no_package' cannot be imported",
    "fit iris --out x --recipe broken_recipes:function": "cannot be imported.*SyntaxError",
    "fit iris --out x --recipe own_recipes:absent": "no function 'absent'",
    "fit iris --out x --recipe own_recipes:raises": "KeyError: 'boom'.*own_recipes.py, line",
    "fit iris --out x --recipe own_recipes:swapped": r"returns \(ELBO, VAE\): return \(model, objective\)",
    "fit iris --out x --recipe own_recipes:encoding": "without the method decode: give it draw, encode",
    "fit iris --out x --recipe own_recipes:refusing": "codes are all that it has.*own_recipes.py, line",
    "fit iris --out x --recipe own_recipes:misshapen": "own_recipes:misshapen.*shapes",
    "fit iris --out x --recipe own_recipes:good --bta 2": "did you mean --beta",
    # continuing
    "fit --resume nope": "nope does not exist",
    "fit --resume iris.npy": "is a file",
    "fit --resume iris-run iris": "omit DATA",
    "fit --resume iris-run --epochs 5": "omit --epochs",
    "fit --resume iris-run --beta 5": "omit --beta",
    "fit --resume iris-run --recipe iwae": "made by the recipe 'vae', not by 'iwae'",
    "fit --resume own-run": "never runs code.*--recipe own_recipes:good",
    # using
    "evaluate nope": "nope does not exist",
    "evaluate iris.npy": "iris.npy is a file",
    "evaluate iris-run five.npy": r"five.npy is an array of shape \(150, 5\): give 4 columns \(sepal length",
    "evaluate iris-run digits": r"digits is an array of shape \(1797, 8, 8\): give 4 columns",
    "evaluate array-run five.npy": r"five.npy: the data must be of shape \(n, 4\), got \(150, 5\)",
    "evaluate array-run digits": "digits: the data must be of shape",
    "evaluate iris-run --recipe own_recipes:good": "made by the recipe 'vae'",
    "evaluate own-run": "--recipe own_recipes:good",
    "evaluate iris-run --k -1": "--k",
    "encode iris-run few.npy": "--out",
    "encode iris-run --out o.npy": "DATA",
    "encode seeds-run few.npy --out o.npy": "several seeds.*seed-0",
    "encode iris-run missing.csv --out o.npy": r"missing.csv has no column 'petal width \(cm\)'",
    "encode iris-run others.csv --out o.npy": "others.csv has no column.*it has a, b, c, d",
    "encode iris-run word.csv --out o.npy": "word.csv: column 'petal length.*holds numbers, but row 7 is 'cat'",
    "encode iris-run infinity.csv --out o.npy": "infinity.csv: column 'petal length.*, row 7 is 'inf'.*not finite",
    "encode iris-run infinite.npy --out o.npy": "infinite.npy, row 25 .counted .*: column 'petal length.*' has -inf",
    "encode array-run gap.csv --out o.npy": "gap.csv.*row 7 .*column 'petal length.*' is missing, .*complete rows",
    "encode array-run nan.npy --out o.npy": "nan.npy.*NaN at row 25, column 2",
    "encode array-run infinite.npy --out o.npy": "infinite.npy.*-inf at row 25, column 2",
    "encode iris-run large.npy --out o.npy": "large.npy.*beyond the range of float32",
    "encode iris-run norows.npy --out o.npy": "norows.npy.*no rows",
    "encode digits-run above.npy --out o.npy": r"99 at row 2, pixel \(3, 4\).*0..16",
    "encode digits-run halves.npy --out o.npy": "whole numbers 0..16",
    "encode digits-run wrongsize.npy --out o.npy": r"\(n, 8, 8\), got \(5, 9, 9\)",
    "encode iris-run few.npy --out absent/o.npy": "absent does not exist: make the folder first",
    "encode iris-run few.npy --out o.txt": ".npy, .npz, .csv, .tsv, .parquet or .feather",
    "encode iris-run few.npy --out iris-run": "extension",
    "encode iris-run few.npy --out few.npy": "it is the input",
    "encode iris-run few.npy --out iris-run/metrics.csv": "a part of the run",
    "encode iris-run few.npy --out o.csv --samples 3": "three axes: write .npy",
    "encode iris-run few.npy --out o.csv --sampels 3": "--sampels.*--samples",
    "reconstruct iris-run five.npy --out o.npy": "five.npy",
    "sample iris-run --out o.png": "not images: write .npy or .csv",
    "sample iris-run --out o.npy -n 0": "--number",
    "score iris-run five.npy --out o.npy": "five.npy",
    "score ae-run iris --out o.npy": "ae-run.*no density",
    "score iris-run few.npy --out o.csv --k 0": "--k",
    "report iris-run --out o.pdf": "ends in .html",
    "report iris-run --out absent/o.html": "absent does not exist",
    "report iris-run --labels nope": "--labels needs DATA",
    "report iris-run five.npy": "five.npy",
    # comparing
    "compare nofile": "nofile does not exist",
    "compare iris --latent-dims 0": "at least 1",
    "compare iris --latent-dims 2,,3": "whole numbers separated by commas",
    "compare iris --out o.txt": ".html, .json or .csv",
    "compare iris --out absent/o.csv": "absent does not exist",
    "compare iris --likelihood gauss": "likelihood must be one of",
    "compare iris --validation wine": "wine has none of the 4 columns",
    "compare one.npy": "at least 2 rows",
    "compare few.npy --latent-dims 2": "held-out rows must be at least 4",
    "demo --out iris-run": "the demo did not make",
    "recipes vea": "unknown recipe .*did you mean vae",
}  # fmt: skip


@pytest.mark.parametrize("words", WORDS)
def test_a_bad_command_is_refused_in_a_sentence(words: str) -> None:
    with _removed("x", "o.npy"):
        assert re.search(WORDS[words], refused(*words.split())), words


EMPTY = (
    ("fit", "iris", "--out", ""), ("fit", "--resume", ""), ("evaluate", ""), ("fit", "", "--out", "x"),
    ("encode", "iris-run", "few.npy", "--out", ""),
)  # fmt: skip


@pytest.mark.parametrize("words", EMPTY)
def test_empty_names_of_files_are_refused(words: tuple[str, ...]) -> None:
    refused(*words)


DATA = {
    "infinite.npy": "infinite.npy.*-inf at row 25, column 2",
    "norows.npy": "norows.npy.*empty",
    "nocolumns.npy": "nocolumns.npy.*0 feature",
    "one.npy": "one.npy.*at least 2 rows",
    "single.npy": "single number",
    "vector.npy": "vector.npy.*shape .150,.*Reshape",
    "axes5.npy": "flatten some of the axes",
    "channels.npy": "1 to 4 channels",
    "objects.npy": "never unpickles",
    "text.npy": "text",
    "complex.npy": "Complex",
    "beyond.npy": "beyond the range of float32.*another unit",
    "tiny.npy": "beyond the range of float32.*another unit",
    "large.npy": "beyond the range of float32.*another unit",
    "truncated.npy": "truncated, as it declares",
    "empty.npy": "empty",
    "empty.csv": "empty",
    "several.npz": "choose one with several.npz:KEY",
    "several.npz:c": "has no array 'c': choose one of a, b",
    "truncated.npz": "damaged",
    "magic.idx": "magic is 01 02 03 04",
    "truncated-idx3-ubyte": "truncated",
    "truncated.idx.gz": "truncated",
    "header.csv": "no rows",
    "ragged.csv": "line 3 has 1 field",
    "twice.csv": "both called 'a'",
    "latin1.csv": "latin1.csv, line 2: byte 8 .0xf6. is not UTF-8 text: name its encoding with --encoding",
    "word.csv": "column 'petal length.*holds numbers, but row 7 is 'cat' .1 of 25.*--column .*=categorical.*--drop",
    "infinity.csv": "column 'petal length.*, row 7 is 'inf', which is not finite",
    "empty-columns.csv": "no column is left to model .a: every cell is missing; b: every cell is missing",
    "notes.doc": "unknown extension",
    "/dev/null": "not a regular file",
}


@pytest.mark.parametrize("data", DATA)
def test_bad_data_are_refused_in_a_sentence(data: str) -> None:
    with _removed("x"):
        assert re.search(DATA[data], refused("fit", data, "--out", "x"))


FITTED: dict[str, dict[str, str]] = {  # columns that are not numbers, and missing cells
    "nan.npy": {"column_3": "number, 0.7%"},
    "gap.csv": {"petal length (cm)": "number, 4.0%"},
    "labelled.csv": {"kind": "categorical", "petal length (cm)": "number"},
    "utf16.csv": {"a": "number", "größe": "categorical"},
    "more.csv": {"id": "identifier", "petal length (cm)": "number", "word": "categorical"},
}


@pytest.mark.parametrize("data", FITTED)
def test_cells_of_all_kinds_are_fitted(data: str) -> None:
    with _removed("x", "o.csv", "o.parquet"):
        done("fit", data, "--out", "x", *SHORT, "--network", "linear")
        schema = latens.load("x").schema_
        for name, words in FITTED[data].items():
            field = schema.field(name)
            kind = "number" if field.kind in ("continuous", "positive") else field.kind
            assert words == kind + (f", {field.missing:.1%}" if field.missing else ""), field
        done("sample", "x", "--out", "o.csv", "-n", 30)
        kept = [f.name for f in schema.fields if f.kind != "identifier"]
        samples = read_table("o.csv")
        assert samples.column_names == kept and samples.num_rows == 30
        assert not any(samples.column(name).null_count for name in schema.names if not schema.field(name).missing)
        done("impute", "x", data, "--out", "o.parquet", "--k", 5)
        found, given = read_table("o.parquet"), read(data).x
        if data.endswith(".npy"):
            given = as_table(given)
        assert found.column_names == given.column_names and found.num_rows == given.num_rows
        for name in given.column_names:  # observed cells stay as they were, and no cell is missing
            then, now = given.column(name).to_pylist(), found.column(name).to_pylist()
            assert all(a == b for a, b in zip(then, now) if a is not None) and None not in now, name


def test_odd_data_can_be_fitted_and_used(tmp_path: Path, in_place: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 3))
    constant = x.copy()
    constant[:, 1] = 5
    table = "a b,é-ü,--beta,😀\n" + "\n".join(",".join(f"{v:.3f}" for v in [*row, row[0]]) for row in x)
    odd: dict[str, Any] = {
        "two rows": x[:2], "three by one": x[:3, :1], "constant": np.full((20, 3), 7.0), "one constant": constant,
        "large": x * 1e30, "small": x * 1e-30, "far": 1.6e9 + x, "mixed": x * [1e30, 1, 1e-30],
        "truth": x > 0, "one grey": np.full((12, 8, 8), 7, np.uint8), "same row": np.repeat(x[:1], 12, 0),
    }  # fmt: skip
    (tmp_path / "ünï cödé -x.csv").write_text(table)
    for name, values in odd.items():
        np.save(tmp_path / f"{name}.npy", values)
    elbos = {}
    for path in sorted(tmp_path.iterdir()):
        out = tmp_path / f"-run of {path.stem}"
        elbos[path.stem] = done("fit", path, f"--out={out}", "--epochs", 1, "--network", "linear")
        assert np.isfinite(latens.load(out).run_.history[0]["train_bound"]), path
        done("sample", out, "--out", tmp_path / "samples.csv", "-n", 2)
    assert "1 of 3 columns never varies" in elbos["one constant"].err
    # a change of unit changes the density's unit and nothing else
    rates = {re.findall(r"rate  KL.*?([\d.]+) nats", elbos[name].out)[0] for name in ("large", "small", "far", "mixed")}
    assert len(rates) == 1


def test_sizes_beyond_the_data_give_warnings() -> None:
    with _removed("x"):
        result = done("fit", "few.npy", "--out", "x", *SHORT, "--latent-dim", 9, "--batch-size", 64)
        assert "warning: latent_dim = 9 is more than the 4 columns" in result.err
        assert "warning: batch_size 64 is more than the 5 rows" in result.err


@contextlib.contextmanager
def _removed(*folders: str) -> Any:
    try:
        yield
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            if Path(folder).is_file():
                Path(folder).unlink()


# Run folders


def _damaged(source: str, name: str, content: bytes | None) -> None:
    shutil.copytree(source, "damaged")
    if content is None:
        Path("damaged", name).unlink()
    else:
        Path("damaged", name).write_bytes(content)


COMMANDS = (
    ("evaluate", "damaged", "--k", "2"), ("encode", "damaged", "few.npy", "--out", "o.npy"),
    ("fit", "--resume", "damaged"), ("fit", "iris", "--out", "x", "--from", "damaged"),
    ("sample", "damaged", "--out", "o.npy"),
    ("score", "damaged", "few.npy", "--out", "o.npy"), ("report", "damaged"),
)  # fmt: skip


@pytest.mark.parametrize("name", ["run.json", "model.safetensors", "metrics.csv"])
def test_damaged_files_of_a_run_are_refused(name: str) -> None:
    whole = Path("iris-run", name).read_bytes()
    rng = np.random.default_rng(0)
    cases: list[bytes | None] = [None, b"", whole[: len(whole) // 2], whole + b" x", b"\xff" * 50, b"[" * 100_000]
    for position in rng.integers(0, len(whole), 8):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(rng.integers(8))
        cases.append(bytes(flipped))
    for number, content in enumerate(cases):
        with _removed("damaged"):
            _damaged("iris-run", name, content)
            for command in COMMANDS[: len(COMMANDS) if number < 2 else 1]:
                if name == "metrics.csv" and "--from" in command:
                    continue  # not read there
                sentence = refused(*command)
                assert "damaged" in sentence and name in sentence, sentence
                assert re.search("fit again|made by `latens fit`", sentence), sentence


def test_a_run_without_its_checkpoint_is_complete() -> None:
    with _removed("damaged"):
        shutil.copytree("iris-run", "damaged", ignore=shutil.ignore_patterns("checkpoint", "report.html"))
        done("evaluate", "damaged", "--k", 2)


RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "newer": ({"format": 2}, "run format 2.*reads formats up to 1: update latens"),
    "no format": ({"format": None}, "format"),
    "true": ({"format": True}, "format"),
    "zero": ({"format": 0}, "format"),
    "no recipe": ({"recipe": "vae"}, "'recipe'"),
    "own parts": ({"recipe": None}, "your own parts"),
    "unknown recipe": ({"recipe": {"name": "later", "options": {}}}, "damaged: unknown recipe 'later'"),
    "unknown option": ({"recipe": {"name": "vae", "options": {"later": 1}}}, "no option 'later'"),
    "other size": ({"recipe": {"name": "vae", "options": {"latent_dim": 9}}}, "same shape"),
    "no schema": ({"schema": None}, "schema"),
    "bad schema": ({"schema": {"shape": [0]}}, "schema"),
    "rows": ({"rows": "many"}, "'rows'"),
    "files": ({"files": {}}, "checksums"),
    "running": ({"status": "running"}, "not finished: continue it with `latens fit --resume damaged`"),
    "training": ({"training": {"later": 1}}, "unknown training option 'later'"),
    "data": ({"data": None}, "'data'"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_damaged_record_is_refused_in_a_sentence(case: str) -> None:
    change, words = RECORDS[case]
    record = loads(Path("iris-run/run.json").read_text())
    with _removed("damaged"):
        _damaged("iris-run", "run.json", sealed(record | change).encode())
        assert re.search(words, refused("evaluate", "damaged", "iris", "--k", 2))


def test_a_damaged_checkpoint_is_refused(in_place: Path) -> None:
    with _removed("damaged"):
        _damaged("iris-run", "run.json", _unfinished("iris-run"))
        [tensors] = Path("damaged/checkpoint").glob("step-*.safetensors")
        state = Path("damaged/checkpoint/state.json")
        for path in (tensors, state):
            whole = path.read_bytes()
            for content in (whole[:-3], whole.replace(b"e", b"f", 1), b""):
                path.write_bytes(content)
                assert re.search(f"{path.name} is damaged", refused("fit", "--resume", "damaged"))
            path.write_bytes(whole)
        tensors.unlink()
        assert "cannot be read" in refused("fit", "--resume", "damaged")


def _unfinished(run: str) -> bytes:
    return sealed(loads(Path(run, "run.json").read_text()) | {"status": "running", "files": {}}).encode()


def test_data_that_changed_are_refused(tmp_path: Path) -> None:
    data, run = tmp_path / "data.npy", tmp_path / "run"
    shutil.copy("few.npy", data)
    done("fit", data, "--out", run, *SHORT)
    np.save(data, np.load(data) + 1)
    for command in (("evaluate", run), ("fit", "--resume", run), ("report", run)):
        assert "data.npy has changed" in refused(*command)
    data.unlink()
    assert re.search("cannot be read again.*does not exist", refused("evaluate", run))
    done("evaluate", run, "iris", "--k", 2)


def test_runs_of_incomplete_seeds_are_refused() -> None:
    with _removed("damaged"):
        shutil.copytree("seeds-run", "damaged")
        shutil.rmtree("damaged/seed-1")
        assert "seed-1 does not exist" in refused("evaluate", "damaged", "--k", 2)
        Path("damaged/seeds.json").write_text("{}")
        assert "seeds.json is damaged" in refused("fit", "--resume", "damaged")


# Failures of the machine


def test_a_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch, in_place: Path) -> None:
    """Whenever the disk fills up, one sentence says so; a run without a checkpoint is removed, one with a checkpoint
    can be resumed."""
    real, left = os.fsync, [0]
    monkeypatch.setattr("latens.report.write", lambda path, *given, **more: write_text(path, "<html></html>"))

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    whole = call("fit", "few.npy", "--out", "reference", *SHORT, "--checkpoint-seconds", 0)
    assert whole.status == 0
    monkeypatch.setattr(os, "fsync", fsync)
    kept = 0
    with _removed("reference", "x"):
        for allowed in range(0, 60, 3):
            left[0] = allowed
            result = call("fit", "few.npy", "--out", "x", *SHORT, "--checkpoint-seconds", 0)
            left[0] = 10**9
            if result.status == 0:
                break
            assert result.status == 2 and "no space left" in result.sentence and "Traceback" not in result.err
            assert not list(Path("x").rglob("*.tmp"))
            if not Path("x").exists():
                continue
            kept += 1
            finished = done("fit", "--resume", "x")
            assert "weights:" in finished.out
            assert Path("x/model.safetensors").read_bytes() == Path("reference/model.safetensors").read_bytes()
            shutil.rmtree("x")
        assert allowed > 9 and kept > 1
        left[0] = 0
        assert "no space left" in refused_output("encode", "iris-run", "few.npy", "--out", "o.npy")


def refused_output(*words: str) -> str:
    result = call(*words)
    assert result.status == 2 and not Path(words[-1]).exists()
    return result.sentence


def test_a_fit_that_diverges_fails_in_a_sentence(tmp_path: Path) -> None:
    result = call("fit", "iris", "--out", tmp_path / "x", "--epochs", 20, "--learning-rate", 1e9, "--clip", 0)
    assert result.status == 1 and "Traceback" not in result.err
    assert re.search("not finite.*learning_rate", result.sentence)


def test_a_run_without_a_compiler_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for more in ((), ("--json",)):
        result = done("fit", "few.npy", "--out", tmp_path / f"run{len(more)}", *SHORT, "--compile", "yes", *more)
        assert result.err.count("no C++ compiler") == 1


def test_too_little_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latens.runs.fitting.prepare", lambda *given, **more: torch.empty(10**15))
    assert "not enough memory" in refused("fit", "iris", "--out", "x", status=1)


def test_unexpected_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any, **more: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("latens.cli.commands.sample", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        call("sample", "iris-run", "--out", "o.npy")


# The same mistakes in Python


def _model() -> models.VAE:
    from torch import nn

    posterior = conditionals.DiagonalNormalPosterior(nn.Linear(3, 2))
    likelihood = conditionals.NormalLikelihood(nn.Linear(1, 3))
    return models.VAE(priors.StandardNormal(1), posterior, likelihood)


def test_python_refuses_with_value_errors(tmp_path: Path, in_place: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))

    def train(**more: Any) -> None:
        latens.train(_model(), objectives.ELBO(), more.pop("x", x), **{"epochs": 1} | more)

    iris = latens.load("iris-run")
    calls: dict[str, Any] = {
        "latent_dim must be": lambda: latens.VAE(latent_dim=0).fit(x),
        "unknown recipe": lambda: latens.VAE(recipe="vea").fit(x),
        "did you mean 'beta'": lambda: latens.VAE(recipe=latens.Recipe("vae", bta=1)).fit(x),
        "unknown device": lambda: latens.VAE(device="nonsense").fit(x),
        "must be at least 2, got 1": lambda: train(x=x[:1]),
        "infinite": lambda: train(x=x / 0.0),
        "unknown training option 'epoch'": lambda: train(epoch=3),
        "unknown device 'gpu'": lambda: train(device="gpu"),
        "is a file": lambda: train(out="iris.npy"),
        "already holds a run": lambda: train(out="iris-run"),
        "begun with other data": lambda: train(out="iris-run", resume=True),
        "one number per row": lambda: train(sample_weight=np.ones(3)),
        "does not exist": lambda: latens.load("nope"),
        "your own parts|same shape|same structure": lambda: latens.load("iris-run", model=_model()),
        "already holds": lambda: iris.save("iris-run"),
        "shape of codes must be": lambda: iris.inverse_transform(np.zeros((2, 9))),
        "number of samples": lambda: iris.sample(0),
    }
    for words, refusal in calls.items():
        with pytest.raises(ValueError, match=words), np.errstate(all="ignore"):
            refusal()
    with pytest.raises(InputError, match="no room"):  # a failed save leaves nothing
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("latens.runs.record.pack", _no_room)
            iris.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def _no_room(tensors: dict[str, torch.Tensor]) -> bytes:
    raise InputError("no room")
