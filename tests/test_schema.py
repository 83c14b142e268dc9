"""Laws of the schema: what is inferred, how values are converted to the model's form and back, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import datasets

from latens.data import as_array, infer
from latens.errors import InputError
from latens.schema import Schema

DTYPES = ["bool", "uint8", "int8", "int16", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64"]
SHAPES = {"vector": (7, 5), "HW": (7, 5, 6), "HWC": (7, 5, 6, 3), "CHW": (7, 3, 5, 6)}


def sample(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Values that both the dtype and float32 can hold."""
    rng = np.random.default_rng(0)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype("float16").astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -30_000), min(info.max, 30_000), shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", SHAPES)
def test_to_model_and_back_changes_nothing(layout: str, dtype: str) -> None:
    x = sample(SHAPES[layout], dtype)
    schema = infer(x)
    assert schema.layout == layout
    inside = schema.to_model(x)
    assert inside.shape == (7, *schema.shape) and inside.dtype == schema.storage
    assert inside.flags.c_contiguous
    back = schema.to_user(inside)
    assert back.dtype == x.dtype and back.shape == x.shape and back.tobytes() == x.tobytes()
    through_float = schema.to_user(inside.astype("float64"))
    assert through_float.dtype == x.dtype and np.array_equal(through_float, x)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    assert schema.describe() and str(x.dtype) in schema.reason


def test_axes_go_where_they_should() -> None:
    x = np.arange(2 * 5 * 6 * 3).reshape(2, 5, 6, 3)
    inside = infer(x, kind="continuous").to_model(x)
    assert all(inside[n, c, i, j] == x[n, i, j, c] for n, i, j, c in np.ndindex(x.shape))


rng = np.random.default_rng(1)
digits = datasets.load_digits()
grey = rng.integers(0, 256, (20, 9, 9))
likert = rng.integers(1, 6, (50, 20)).astype(float)
scales = rng.integers(0, 200, (50, 20)) // np.array([1, 1, 1] + [20] * 17)  # ages next to counts
one = np.ones((4, 3))
KINDS = {
    "digits images": (digits.images, "levels", 17, "uint8"),
    "digits data": (digits.data, "levels", 17, "uint8"),
    "wine": (datasets.load_wine().data, "continuous", None, "float32"),
    "breast_cancer": (datasets.load_breast_cancer().data, "continuous", None, "float32"),
    "iris": (datasets.load_iris().data, "continuous", None, "float32"),
    "diabetes": (datasets.load_diabetes().data, "continuous", None, "float32"),
    "booleans": (grey > 100, "binary", 2, "uint8"),
    "zeros and ones": ((grey > 100).astype(float), "binary", 2, "uint8"),
    "only zeros": (one * 0, "continuous", None, "float32"),
    "only ones": (one, "continuous", None, "float32"),
    "two values, not 0 and 1": ((likert > 2) * 2.0, "continuous", None, "float32"),
    "8 bit": (grey.astype("uint8"), "levels", 256, "uint8"),
    "8 bit, black": (np.zeros((4, 3, 3), "uint8"), "binary", 2, "uint8"),
    "8 bit, up to 15": ((grey % 16).astype("uint8"), "levels", 16, "uint8"),
    "8 bit, up to 200": ((grey % 201).astype("uint8"), "levels", 256, "uint8"),
    "8-bit image as floats": (grey.astype("float32"), "levels", 256, "uint8"),
    "8-bit image in [0, 1]": (grey / 255, "levels", 256, "float32"),
    "8-bit vectors as floats": (grey.reshape(20, 81) * 1.0, "levels", 256, "uint8"),
    "16-bit image": ((grey * 257).astype("uint16"), "continuous", None, "float32"),
    "answers 1..5": (likert, "levels", 6, "uint8"),
    "answers in 6 columns": (likert[:, :6], "continuous", None, "float32"),
    "counts on many scales": (scales, "continuous", None, "float32"),
    "negative whole numbers": (grey - 3, "continuous", None, "float32"),
    "timestamps": (rng.normal(1.6e9, 1.0, (50, 2)), "continuous", None, "float64"),
    "timestamps, whole": (rng.integers(1_600_000_000, 1_600_000_009, (50, 2)), "continuous", None, "float64"),
    "large spread": (rng.normal(1.6e9, 1e6, (50, 2)), "continuous", None, "float32"),
    "beyond float32": (rng.normal(0, 1e300, (50, 2)), "continuous", None, "float64"),
    "below float32": (rng.normal(0, 1e-60, (50, 2)), "continuous", None, "float64"),
    "constant and large": (np.c_[np.full(50, 1.6e9 + 1), rng.normal(size=50)], "continuous", None, "float32"),
}


@pytest.mark.parametrize("case", KINDS)
def test_kind_levels_and_storage_are_inferred(case: str) -> None:
    x, kind, levels, storage = KINDS[case]
    schema = infer(x)
    assert (schema.kind, schema.levels, schema.storage) == (kind, levels, storage), schema.reason
    assert (schema.low, schema.high) == (x.min(), x.max())
    schema.to_model(x)


@pytest.mark.parametrize("case", KINDS)
def test_the_conversion_to_float32_loses_little(case: str) -> None:
    x = KINDS[case][0].reshape(len(KINDS[case][0]), -1).astype(float)
    schema = infer(KINDS[case][0])
    loss = np.abs(schema.to_user(schema.to_model(KINDS[case][0])).reshape(x.shape) - x).max(0)
    varies = np.ptp(x, axis=0) > 0
    scale = max(np.abs(x).max(), 1e-300)  # the square of 1e300 would overflow
    assert (loss[varies] <= 1e-3 * scale * np.std(x / scale, axis=0)[varies]).all()


def test_the_layout_is_inferred_from_the_shape() -> None:
    shapes = {
        (3, 8, 9): ("HW", (1, 8, 9)),
        (3, 48, 1): ("TC", (48, 1)),
        (3, 12, 3): ("TC", (12, 3)),
        (3, 11, 3): ("HW", (1, 11, 3)),
        (3, 16, 4): ("HW", (1, 16, 4)),
        (3, 1, 48): ("HW", (1, 1, 48)),
        (3, 8, 9, 1): ("HWC", (1, 8, 9)),
        (3, 8, 9, 4): ("HWC", (4, 8, 9)),
        (3, 2, 8, 9): ("CHW", (2, 8, 9)),
        (3, 3, 8, 4): ("CHW", (3, 8, 4)),
        (3, 4): ("vector", (4,)),
    }
    for shape, (layout, event) in shapes.items():
        schema = infer(np.random.default_rng(0).normal(size=shape))
        assert (schema.layout, schema.shape) == (layout, event)
        assert ("read as channels" in schema.reason) == (shape == (3, 3, 8, 4))


def test_constant_cells_are_flat_indexes_of_the_model_layout() -> None:
    x = np.random.default_rng(0).normal(size=(9, 5, 6, 3))
    x[:, 2, 4, 1] = 7.0
    schema = infer(x)
    (cell,) = schema.constant
    assert np.unravel_index(cell, schema.shape) == (1, 2, 4)


def test_the_kind_and_the_levels_can_be_overridden() -> None:
    x = np.array([[0, 1, 3], [2, 1, 0]])
    assert infer(x, kind="levels").levels == 4
    assert infer(x, levels=10).levels == 10 and infer(x, levels=10).kind == "levels"
    assert infer(x.astype("uint8"), kind="continuous").storage == "uint8"
    assert infer(np.zeros((3, 2)), kind="binary").kind == "binary"
    twelve_bit = np.arange(4096).reshape(64, 64)
    assert infer(twelve_bit, levels=4096).storage == "float32"
    assert np.array_equal(infer(twelve_bit, kind="levels").to_user(twelve_bit.astype("float32")), twelve_bit)


def test_numbers_outside_the_dtype_are_clipped_not_wrapped() -> None:
    far = np.array([[-1e30, -0.6, 0.4, 300.6, 1e30]], dtype="float32")
    wanted = {
        "bool": [False, False, False, True, True],
        "uint8": [0, 0, 0, 255, 255],
        "int8": [-128, -1, 0, 127, 127],
        "int32": [-(2**31), -1, 0, 301, 2**31 - 1],
        "int64": [-(2**63), -1, 0, 301, 2**63 - 1],
        "uint64": [0, 0, 0, 301, 2**64 - 1],
        "float16": [-65504, -0.6, 0.4, 300.6, 65504],
    }
    for dtype, values in wanted.items():
        got = Schema((5,), "vector", "continuous", dtype=dtype).to_user(far)[0]
        assert got.dtype == dtype
        assert np.allclose(got.astype(float), np.array(values, float), rtol=1e-3), (dtype, got)
    assert Schema((5,), "vector", "levels", 17, "int64").to_user(far).tolist() == [[0, 0, 0, 16, 16]]
    assert Schema((2,), "vector", "levels", 17, "int8").to_user(np.array([[-3, 999]])).tolist() == [[0, 16]]


table = np.random.default_rng(0).normal(size=(6, 3))


def broken(value: float, position: tuple[int, ...], x: np.ndarray = table) -> np.ndarray:
    x = x.copy()
    x[position] = value
    return x


REFUSED = {
    "no rows": (np.zeros((0, 3)), "empty"),
    "no columns": (np.zeros((3, 0)), r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1 is required"),
    "one row": (np.zeros((1, 3)), "needs at least 2 rows, got n_samples=1"),
    "one axis": (np.zeros(3), "Reshape your data"),
    "no axis": (3.0, "Reshape your data"),
    "five axes": (np.zeros((2, 2, 2, 2, 2)), r"images \(3 or 4\), got the shape \(2, 2"),
    "five channels": (np.zeros((2, 8, 8, 5)), r"\(2, 8, 8, 5\) have more than 4 channels"),
    "empty images": (np.zeros((2, 0, 8)), "empty"),
    "objects": (np.array([[{}, 1], [2, 3]], dtype=object), "objects"),
    "text": (np.array([["a", "b"], ["c", "d"]]), "text"),
    "a list with text": ([[1, "a"], [2, "b"]], "text"),
    "a ragged list": ([[1, 2], [3]], "list"),
    "complex": (np.ones((3, 3), complex), "Complex data not supported"),
    "dates": (np.zeros((3, 3), "M8[s]"), "dates"),
    "records": (np.zeros(3, [("a", float)]), "numbers"),
    "NaN": (broken(np.nan, (4, 2)), r"NaN at row 4, column 2 "),
    "infinity": (broken(np.inf, (0, 1)), r"inf at row 0, column 1 "),
    "minus infinity": (broken(-np.inf, (5, 0)), r"-inf at row 5, column 0 "),
    "NaN in an image": (broken(np.nan, (1, 2, 3), np.ones((4, 5, 6))), r"NaN at row 1, pixel \(2, 3\)"),
    "NaN in colour": (broken(np.nan, (1, 2, 3, 0), np.ones((4, 5, 6, 3))), r"row 1, pixel \(2, 3\), channel 0"),
    "masked": (np.ma.masked_array(table, table > 1), "masked"),
    "a path": ("data.npy", "latens.data.read"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_infer_refuses_invalid_arrays(case: str) -> None:
    x, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        infer(x)
    assert "\n" not in str(caught.value)


def test_a_bad_cell_in_a_later_chunk_is_named_by_its_position() -> None:
    x = np.zeros((3_000_000, 2), "float32")
    x[:, 1] = np.arange(3_000_000) % 1000
    x[2_999_998, 1] = np.nan
    with pytest.raises(InputError, match="row 2999998, column 'b'"):
        infer(x, names=["a", "b"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "gaussian"}, "continuous, binary, levels"),
        ({"levels": 1}, "levels must be"),
        ({"levels": True}, "levels must be"),
        ({"levels": 5, "kind": "binary"}, "omit one"),
        ({"levels": 5}, r"have 7.0 at row 1, column 0 .*0..4"),
        ({"kind": "binary"}, r"have 7.0 at row 1, column 0 .*0 or 1"),
        ({"names": ["a"]}, "1 names do not fit"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        infer(np.array([[0.0, 1.0], [7.0, 0.5]]), **options)


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(InputError, match="65,536"):
        infer(np.array([[0, 1], [10**9, 1]]), kind="levels")


def test_new_data_is_checked_against_the_schema() -> None:
    levels = infer(digits.data)
    for bad, message in [
        (digits.data[:, :63], r"\(n, 64\), got \(1797, 63\)"),
        (digits.data[0], "Reshape your data"),
        (digits.images, r"got \(1797, 8, 8\)"),
        (broken(17.0, (900, 5), digits.data), "17.0 at row 900, column 5 .*0..16"),
        (broken(-1.0, (900, 5), digits.data), "-1.0 at row 900"),
        (broken(0.5, (900, 5), digits.data), "0.5 at row 900"),
        (broken(np.nan, (900, 5), digits.data), "NaN at row 900"),
        (np.full((2, 64), 200, "uint8"), "have 200 at row 0"),
        (digits.data.astype(complex), "Complex"),
    ]:
        with pytest.raises(InputError, match=message):
            levels.to_model(bad)
    assert levels.to_model(digits.data[:0]).shape == (0, 64)
    assert levels.to_model(digits.data.astype("int8")).dtype == "uint8"
    single = infer(table.astype("float32"))
    with pytest.raises(InputError, match=r"1e\+300 at row 2, column 1 .*float32"):
        single.to_model(broken(1e300, (2, 1)))
    with pytest.raises(InputError, match="shape"):
        single.to_user(np.zeros((3, 4)))
    bytes_ = infer(np.array([[0, 9], [3, 200]], "uint8"), kind="continuous")
    with pytest.raises(InputError, match="300 at row 0"):
        bytes_.to_model(np.array([[300, 0]]))


@pytest.mark.parametrize(
    "change",
    [
        {"shape": "8"}, {"shape": [0]}, {"shape": [True]}, {"shape": []}, {"shape": [2, 2]}, {"layout": "WHC"},
        {"kind": "odd"}, {"kind": None}, {"levels": 2.0}, {"levels": 3}, {"dtype": "float31"}, {"dtype": "O"},
        {"dtype": 3}, {"storage": "int8"}, {"names": ["a"]}, {"names": [1, 2]}, {"names": "ab"},
        {"constant": [2]}, {"constant": None}, {"low": "0"}, {"low": 3.0}, {"high": float("nan")},
        {"reason": None}, {"extra": 1}, {"ranges": 1}, {"ranges": {"low": [0]}},
    ],
)  # fmt: skip
def test_a_schema_with_a_bad_field_is_refused(change: dict) -> None:
    good = Schema((2,), "vector", "continuous", names=("a", "b")).to_json()
    Schema.from_json(good)
    with pytest.raises(InputError, match=r"schema of the data"):
        Schema.from_json(good | change)


def test_from_json_names_what_is_missing() -> None:
    good = Schema((2,), "vector", "continuous").to_json()
    for name in good.keys() - {"span", "constant_values", "ranges"}:  # fields that older runs lack
        with pytest.raises(InputError, match=f"lacks {name}"):
            Schema.from_json({key: value for key, value in good.items() if key != name})
    with pytest.raises(InputError, match="mapping"):
        Schema.from_json([])


def test_arrays_of_other_libraries_are_read() -> None:
    numbers = np.array([[1.5, 2.0], [3.0, 4.0]])

    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(numbers, columns=["a", "b"])
    array, names = as_array(frame)
    assert names == ("a", "b") and np.array_equal(array, numbers)
    assert as_array(pandas.DataFrame(numbers))[1] is None
    mixed = pandas.DataFrame({"a": [1, 2], "b": [True, False]})
    assert as_array(mixed)[0].dtype == "int64"
    nullable = pandas.DataFrame({"a": pandas.array([1, 2], dtype="Int64"), "b": [0.5, 1.5]})
    assert np.array_equal(as_array(nullable)[0], [[1, 0.5], [2, 1.5]])
    with pytest.raises(InputError, match="column 'b'"):  # NaN or a missing cell, by the version of pandas
        infer(pandas.DataFrame({"a": [1, 2], "b": pandas.array([1, None], dtype="Int64")}))
    with pytest.raises(InputError, match="'b' has missing"):
        as_array(pandas.DataFrame({"a": [1, 2], "b": np.array([1, pandas.NA], dtype=object)}))
    with pytest.raises(InputError, match=r"column 'b'.*text"):
        as_array(pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    with pytest.raises(InputError, match="two columns called 'a'"):
        as_array(pandas.DataFrame(numbers, columns=["a", "a"]))
    with pytest.raises(InputError, match="NaN at row 1, column 'b'"):
        infer(pandas.DataFrame({"a": [1.5, 2.0], "b": [1.0, np.nan]}))

    polars = pytest.importorskip("polars")
    array, names = as_array(polars.DataFrame({"a": [1.5, 3.0], "b": [2, 4]}))
    assert names == ("a", "b") and np.array_equal(array, numbers)
    with pytest.raises(InputError, match="column 'c'"):
        as_array(polars.DataFrame({"c": ["x", "y"]}))
    with pytest.raises(InputError, match="'c' has missing"):
        as_array(polars.DataFrame({"c": [True, None]}))

    import pyarrow

    array, names = as_array(pyarrow.table({"a": [1.5, 3.0], "b": [2, 4]}))
    assert names == ("a", "b") and np.array_equal(array, numbers)

    torch = pytest.importorskip("torch")
    assert np.array_equal(as_array(torch.tensor(numbers, requires_grad=True))[0], numbers)
    assert np.array_equal(as_array(torch.tensor(numbers, dtype=torch.bfloat16))[0], numbers)

    sparse = pytest.importorskip("scipy.sparse")
    for matrix in (sparse.csr_matrix(numbers), sparse.coo_array(numbers)):
        with pytest.raises(InputError, match=r"sparse.*toarray"):
            as_array(matrix)
