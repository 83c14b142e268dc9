"""The layers of latens: which may import which, and what no file may use."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import latens

ROOT = Path(latens.__file__).parent

# Each layer imports only from the layers before it, wherever the import stands in a file. `latens` itself, which holds
# the version and imports everything lazily, counts as the first layer when another layer asks for the version.
ORDER = (
    "errors", "tensors", "machine", "schema",  # without knowledge of models
    "distributions", "networks", "conditionals", "priors", "models", "objectives",  # the mathematics
    "data", "training",  # batches, and the loop over them
    "evaluation", "recipes", "densities",  # measures, recipes and choices, densities of codes
    "runs", "report",  # from data to a run, its outputs, and its pages
    "api", "cli", "__main__",  # what a user sees
)  # fmt: skip
# (module, layer it reaches up to): why
EXCEPTIONS: dict[tuple[str, str], str] = {}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, layer) of every import of latens in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "latens"
                else [str(node.module)]
            )
        for name in names:
            package, _, rest = name.partition(".")
            layer = rest.partition(".")[0]
            if package == "latens" and layer not in ("", "__version__", "late"):
                yield node.lineno, layer


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_layer_imports_only_from_layers_before_it(path: Path):
    own = layer_of(path)
    if own == "__init__":
        return
    assert own in ORDER, f"{own} is a new layer: say in ORDER where it stands"
    for line, layer in imports(path):
        if layer != own and (str(path.relative_to(ROOT)), layer) not in EXCEPTIONS:
            assert ORDER.index(layer) < ORDER.index(own), f"{path.name}:{line}: {own} must not import {layer}"


# Classes that share a name: the estimator and the model have the field's name, each where users look for it.
SHARED_NAMES = {"VAE"}


def test_no_two_classes_share_a_name():
    classes = [node.name for path in modules() for node in ast.walk(ast.parse(path.read_text("utf-8")))
               if isinstance(node, ast.ClassDef)]  # fmt: skip
    assert {name for name in classes if classes.count(name) > 1} == SHARED_NAMES


def test_the_root_has_few_entries():
    # empty folders of earlier versions may remain
    files = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    entries = {path.parts[0] for path in files if "__pycache__" not in path.parts}
    assert len(entries) <= 22, sorted(entries)


def test_imports_have_no_cycle():
    """Imports inside functions and for types count as well; only `latens` itself, which imports everything lazily, does
    not."""
    names = {path: ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
             for path in modules()}  # fmt: skip
    known = {name: path for path, name in names.items()}
    arrows = {name: set(_imported(path, known)) - {name, "latens"} for path, name in names.items() if name != "latens"}
    left = dict(arrows)
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    on_cycles = {name: others & left.keys() for name, others in left.items()}
    assert not on_cycles, on_cycles


def _imported(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The files of latens that a file imports; for names of a package that are not files, the package itself."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (part for part in parts if part in known)
            if any(part not in known for part in parts) and node.module != "latens":
                yield str(node.module)


def test_every_listed_layer_and_exception_still_exists():
    assert {layer_of(path) for path in modules()} - {"__init__"} <= set(ORDER)
    for name, layer in EXCEPTIONS:
        assert layer in [found for _, found in imports(ROOT / name)], f"{name} no longer imports {layer}"


@pytest.mark.parametrize("module", ["latens", "latens.cli.main"])
def test_importing_latens_is_light(module: str):
    heavy = ("torch", "sklearn", "numpy", "scipy", "accelerate", "matplotlib", "pyarrow", "PIL")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert done.stdout.strip() == "[]"


def test_a_small_fit_imports_no_compiler_and_no_statistics(tmp_path: Path):
    """A compiler and statistics would cost a second at the start of every command."""
    rows = [f"{i % 7},{i * i % 11},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c", *rows]))
    fits = [["fit", "t.csv", "--out", name, "--recipe", name, "--epochs", "1"] for name in ("vae", "sphere")]
    heavy = ("torch._dynamo", "torch._inductor", "torch.fx.experimental.symbolic_shapes", "scipy.stats", "sympy")
    code = (
        f"import sys; from latens.cli.main import main; assert not any([main(words) for words in {fits}]); "
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(ROOT.parent)})  # fmt: skip
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_pickled_and_no_code_is_read_from_files(path: Path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        where = f"{path.name}:{getattr(node, 'lineno', '')}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found = {name.partition(".")[0] for name in names} & {
                "pickle",
                "cPickle",
                "dill",
                "cloudpickle",
                "joblib",
                "marshal",
                "shelve",
            }
            assert not found, f"{where}: {found}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.load", "torch.save", "eval", "exec", "compile", "pd.read_pickle"), (
                f"{where}: {called}"
            )
            allowed = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert allowed.get("allow_pickle", "False") == "False", where
            if called in ("np.load", "numpy.load"):
                assert allowed.get("allow_pickle") == "False", f"{where}: say allow_pickle=False"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_keys_of_seeds_are_registered(path: Path):
    """What follows the seed is a member of ``randomness.Key`` or a counter, never a literal number."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function, keys = ast.unparse(node.func), node.args
        if function.endswith("default_rng") and keys and isinstance(keys[0], ast.List):
            keys = keys[0].elts
        elif function not in ("seed_of", "seeded", "reseed"):
            continue
        own = [each for key in keys[1:2] for each in ast.walk(key)
               if isinstance(each, ast.Constant) or (isinstance(each, ast.Name) and each.id.isupper())]  # fmt: skip
        assert not own, f"{path.name}:{node.lineno}: {ast.unparse(node)}"
