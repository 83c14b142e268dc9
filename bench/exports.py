"""Find which graphs `latens export` writes for every recipe, and how close ONNX Runtime comes to torch.

    python bench/exports.py                    # every recipe, one epoch on digits; writes results/exports.json
    python bench/exports.py vae poe            # these recipes
    python bench/exports.py --table docs/howto/export.md

The error is the largest error in float32 over seven held-out rows: for the encoder and the decoder as a share of the
column's range over these rows, for the scorer relative to the row's nats. An error of at most 1e-5 passes.

Each graph has the digest of its operations, by which tests/test_exports.py tells whether it is still the graph that was
measured.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed.tables import put
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "exports.json"
PARTS = ("encoder", "decoder", "scorer")
MOST = 1e-5
ROWS = 7


def rows_for(recipe: str) -> Any:
    """400 digits and seven more."""
    from latens.data import read
    from latens.data.rows import Asked, rows_of

    digits = read("digits")
    asked = Asked(condition=("label",)) if recipe == "cvae" else Asked()
    return rows_of(digits.x, labels=digits.labels, asked=asked).take(np.arange(400 + ROWS))


def fitted(recipe: str, rows: Any) -> Any:
    """A run trained for one epoch on the first 400 rows."""
    from latens.recipes import Recipe
    from latens.runs.fitting import fit_recipe
    from latens.training import Settings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = fit_recipe(rows.take(np.arange(400)), Recipe(recipe), Settings(epochs=1, device="cpu"), validation=0.0)
    run.model.eval()
    return run


def untrained(recipe: str, rows: Any) -> Any:
    """The run before its first step, with noise added to its weights so that no layer stays at 0."""
    from latens.recipes import Recipe
    from latens.runs.fitting import prepare
    from latens.training import Settings

    run, _ = prepare(rows.take(np.arange(400)), Recipe(recipe), Settings(epochs=1, device="cpu"))
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in run.model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    run.model.eval()
    return run


class Recorded(TorchDispatchMode):
    """The operations that are computed in this context: names, and the types, shapes and whole numbers given."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [_kind(each) for each in tree_leaves((args, kwargs or {}))]
        self.found.append([str(func), given])
        return func(*args, **kwargs or {})


def _kind(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape)]
    return value if isinstance(value, int | str | None) else type(value).__name__


def operations(run: Any, part: str) -> str:
    """The digest of the operations of a part on three rows, or the reason why the part has no graph."""
    from latens.errors import InputError
    from latens.runs.export import writing

    try:
        graph = writing.GRAPHS[part](run)
        with torch.no_grad(), Recorded() as recorded:
            graph(*graph.given(3))
    except (NotImplementedError, InputError) as error:
        return str(error)
    return hashlib.sha256(json.dumps(recorded.found).encode()).hexdigest()[:12]


def compared(run: Any, part: str, x: torch.Tensor) -> dict[str, Any]:
    """{"error": the largest error, "bytes": the size of the graph} of a graph, or {"why": the reason it cannot be
    written}."""
    import onnxruntime

    from latens.errors import InputError
    from latens.runs.export import writing

    try:
        graph = writing.GRAPHS[part](run)
        data = writing.as_onnx(graph)
    except (NotImplementedError, InputError) as error:
        return {"why": str(error)}
    torch.manual_seed(0)
    given = list(graph.given(ROWS))
    given[0] = x if part != "decoder" else codes(run, x).to(given[0])
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(list(graph.outputs), {n: v.numpy() for n, v in zip(graph.inputs, given, strict=True)})
    with torch.no_grad():
        wanted = graph(*given)
    errors = [_error(ours, theirs.detach().numpy(), part) for ours, theirs in zip(found, wanted, strict=True)]
    return {"error": max(errors), "bytes": len(data)}


def codes(run: Any, x: torch.Tensor) -> torch.Tensor:
    """The codes of some rows, each moved a little; draws from the prior if the model has no encoder."""
    from latens.errors import InputError
    from latens.runs.export import graphs
    from latens.tensors.trees import flat_codes

    with torch.no_grad():
        try:
            encoder = graphs.encoder(run)
            z = encoder(x, *encoder.given(ROWS)[1:])[0]
        except (NotImplementedError, AttributeError, InputError):
            z = flat_codes(run.model.draw(x, 1).codes[0], leading=1)
    return z * (1 - 0.02 * torch.rand(z.shape)).to(z)


def _error(ours: np.ndarray, theirs: np.ndarray, part: str) -> float:
    """The largest error: relative for the scorer; for the other graphs, as a share of a column's range or of its
    largest number, whichever is greater."""
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if (np.isfinite(ours) != np.isfinite(theirs)).any():
        return float("inf")
    if part == "scorer":
        scale = np.maximum(np.abs(theirs), 1.0)
    else:
        scale = np.maximum(np.ptp(np.nan_to_num(theirs), axis=0, keepdims=True), np.abs(np.nan_to_num(theirs)).max())
    return float(np.nan_to_num(np.abs(ours - theirs) / np.maximum(scale, 1e-30)).max())


def measure(recipe: str) -> dict[str, Any]:
    """The line of results of a recipe."""
    rows = rows_for(recipe)
    run, other, x = fitted(recipe, rows), untrained(recipe, rows), rows.inside[400:]
    return {"recipe": recipe} | {part: compared(run, part, x) | {"operations": operations(other, part)}
                                 for part in PARTS}  # fmt: skip


def kept() -> dict[str, dict[str, Any]]:
    """{recipe: line} from the file of results."""
    lines = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    return {line["recipe"]: line for line in lines}


def table(lines: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown: how many recipes export completely, and the others with their reasons."""
    whole = [name for name, line in lines.items() if all(line[part].get("error", 1) <= MOST for part in PARTS)]
    worst = [max(lines[name][part]["error"] for name in whole) for part in PARTS]
    text = [
        f"For {len(whole)} of the {len(lines)} recipes that were measured, all three graphs agree with torch in ONNX "
        f"Runtime: encoders to {worst[0]:.0e} and decoders to {worst[1]:.0e} of a column's range, scorers to "
        f"{worst[2]:.0e} of the nats (`python bench/exports.py` fits one epoch to digits and compares seven other "
        "rows). The remaining recipes:",
        "", "| recipe | encoder | decoder | scorer |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, line in lines.items():
        if name not in whole:
            cells = [line[part].get("why") or _said(line[part]["error"]) for part in PARTS]
            text.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(text)


def _said(error: float) -> str:
    return "yes" if error <= MOST else f"yes, to {error:.0e}"


def main(words: list[str]) -> None:
    if words[:1] == ["--table"]:
        page = Path(words[1])
        page.write_text(put(table(kept()), page.read_text("utf-8"), "exports"), "utf-8")
        return
    from latens.recipes import CATALOGUE

    torch.set_num_threads(1)
    for recipe in words or CATALOGUE:
        line = measure(recipe)
        lines = kept() | {recipe: line}
        order = [name for name in CATALOGUE if name in lines]
        content = ",\n".join(json.dumps(lines[name]) for name in order)
        with tempfile.NamedTemporaryFile("w", dir=RESULTS.parent, delete=False) as file:
            file.write(f"[\n{content}\n]\n")
        Path(file.name).replace(RESULTS)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
