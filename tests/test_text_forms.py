"""Laws of columns of text: the form of all cells is found, cells are read as values, and written back character by
character."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from latens.data.tables.forms import asked_times
from latens.data.tables.reading import Hints, Unsettled, read_columns, understood, without_marks, written
from latens.errors import InputError
from latens.schema.form import Form

DAY = dt.date(2021, 12, 31)
NOON = dt.datetime(2021, 12, 31, 14, 30)
UTC = dt.UTC


def day(*args: int) -> dt.date:
    return dt.date(*args)


# name: (cells, their values, the description of the form)
FORMS: dict[str, tuple[list[str], list[Any], str]] = {
    "ISO": (["2021-12-31", "2022-01-05"], [DAY, day(2022, 1, 5)], "%Y-%m-%d"),
    "midnights without a clock": (["2021-12-31 14:30", "2021-12-31"], [NOON, dt.datetime(2021, 12, 31)],
                                  "%Y-%m-%d %H:%M"),
    "midnights without a clock, T": (["2021-12-31", "2021-12-31T14:30:00"], [dt.datetime(2021, 12, 31), NOON],
                                     "%Y-%m-%dT%H:%M:%S"),
    "midnights with a clock": (["2021-12-31 14:30", "2021-12-31 00:00"], [NOON, dt.datetime(2021, 12, 31)],
                               "%Y-%m-%d %H:%M"),
    "slashes, year first": (["2021/12/31", "2022/01/05"], [DAY, day(2022, 1, 5)], "%Y/%m/%d"),
    "month first": (["12/31/2021", "01/05/2022"], [DAY, day(2022, 1, 5)], "%m/%d/%Y"),
    "day first": (["31/12/2021", "05/01/2022"], [DAY, day(2022, 1, 5)], "%d/%m/%Y"),
    "day first, no zeros": (["31/12/2021", "5/1/2022"], [DAY, day(2022, 1, 5)], "%-d/%-m/%Y"),
    "points are day first": (["03.04.2021", "05.06.2021"], [day(2021, 4, 3), day(2021, 6, 5)], "%d.%m.%Y"),
    "dashes, day first": (["31-12-2021", "05-01-2022"], [DAY, day(2022, 1, 5)], "%d-%m-%Y"),
    "short years": (["31/12/21", "05/01/99"], [DAY, day(1999, 1, 5)], "%d/%m/%y"),
    "compact": (["20211231", "20220105"], [DAY, day(2022, 1, 5)], "%Y%m%d"),
    "compact with a clock": (["20211231143000", "20220105000000"], [NOON, dt.datetime(2022, 1, 5)], "%Y%m%d%H%M%S"),
    "months": (["2021-12", "2022-01"], [day(2021, 12, 1), day(2022, 1, 1)], "%Y-%m"),
    "months, year last": (["12/2021", "01/2022"], [day(2021, 12, 1), day(2022, 1, 1)], "%m/%Y"),
    "months, year first": (["2021 Dec", "2022 Jan"], [day(2021, 12, 1), day(2022, 1, 1)], "%Y %b"),
    "numbered months": (["2021M12", "2022M01"], [day(2021, 12, 1), day(2022, 1, 1)], "%YM%m"),
    "quarters": (["2021Q4", "2022Q1"], [day(2021, 10, 1), day(2022, 1, 1)], "%YQ%q"),
    "quarters, year last": (["Q4 2021", "Q2 2022"], [day(2021, 10, 1), day(2022, 4, 1)], "Q%q %Y"),
    "weeks": (["2020-W53", "2021-W01", "2021-W52"], [day(2020, 12, 28), day(2021, 1, 4), day(2021, 12, 27)], "%G-W%V"),
    "named month": (["31-Dec-2021", "05-Jan-2022"], [DAY, day(2022, 1, 5)], "%d-%b-%Y"),
    "in capitals": (["31-DEC-2021", "05-JAN-2022"], [DAY, day(2022, 1, 5)], "%d-%^b-%Y"),
    "American": (["Dec 31, 2021", "Jan 05, 2022"], [DAY, day(2022, 1, 5)], "%b %d, %Y"),
    "in full": (["December 31, 2021", "January 5, 2022"], [DAY, day(2022, 1, 5)], "%B %-d, %Y"),
    "with its weekday": (["Fri, 31 Dec 2021", "Wed, 05 Jan 2022"], [DAY, day(2022, 1, 5)], "%a, %d %b %Y"),
    "minutes": (["2021-12-31 14:30", "2022-01-05 00:00"], [NOON, dt.datetime(2022, 1, 5)], "%Y-%m-%d %H:%M"),
    "a T": (["2021-12-31T14:30:00", "2022-01-05T00:00:00"], [NOON, dt.datetime(2022, 1, 5)], "%Y-%m-%dT%H:%M:%S"),
    "UTC": (["2021-12-31T14:30:00Z"] * 2, [NOON.replace(tzinfo=UTC)] * 2, "%Y-%m-%dT%H:%M:%SZ"),
    "an offset": (["2021-12-31 16:30:00+02:00"] * 2, [NOON.replace(tzinfo=UTC)] * 2, "%Y-%m-%d %H:%M:%S%:z"),
    "milliseconds": (["2021-12-31 14:30:00.125"] * 2, [NOON.replace(microsecond=125000)] * 2,
                     "%Y-%m-%d %H:%M:%S.%3f"),
    "twelve hours": (["12/31/2021 2:30 PM", "1/5/2022 12:00 AM"], [NOON, dt.datetime(2022, 1, 5)],
                     "%-m/%-d/%Y %-I:%M %p"),
    "ctime": (["Fri Dec 31 14:30:00 2021"] * 2, [NOON] * 2, "%a %b %d %H:%M:%S %Y"),
    "times of day": (["14:30", "00:05"], [dt.time(14, 30), dt.time(0, 5)], "%H:%M"),
    "times of day, am": (["2:30 pm", "12:05 am"], [dt.time(14, 30), dt.time(0, 5)], "%-I:%M %P"),
    "time spans": (["36:15:00", "1:02:03"], [dt.timedelta(hours=36.25), dt.timedelta(seconds=3723)], "%-H:%M:%S"),
    "days and hours": (["1 days 02:00:00", "0 days 00:00:05"], [dt.timedelta(hours=26), dt.timedelta(seconds=5)],
                       "%j days %H:%M:%S"),
    "ISO time spans": (["PT1H30M", "P1DT5S"], [dt.timedelta(hours=1.5), dt.timedelta(days=1, seconds=5)], "PT1H30M"),
    "ISO time spans with all parts": (["PT0H53M", "PT26H0M"], [dt.timedelta(minutes=53), dt.timedelta(hours=26)],
                                      "PT%-HH%-MM"),
    "ISO time spans of pandas": (["P0DT0H0M10.005S", "P1DT2H0M0.000S"],
                                 [dt.timedelta(seconds=10.005), dt.timedelta(hours=26)], "P%jDT%-HH%-MM%-S.%3fS"),
    "ISO time spans of Java": (["PT26H17M", "PT5S", "-PT1H"], [dt.timedelta(minutes=1577), dt.timedelta(seconds=5),
                               dt.timedelta(hours=-1)], "PT1H30M"),
    "ISO time spans, leading zeros": (["PT00H53M", "PT26H00M"], [dt.timedelta(minutes=53), dt.timedelta(hours=26)],
                                      "PT%HH%MM"),
    "ISO time spans in seconds": (["PT637S", "PT5S"], [dt.timedelta(seconds=637), dt.timedelta(seconds=5)], "PT%-SS"),
    "ISO time spans in tenths": (["PT85.4S", "PT5.0S"], [dt.timedelta(seconds=85.4), dt.timedelta(seconds=5)],
                                 "PT%-S.%1fS"),
    "ISO time spans in minutes": (["PT90M", "-PT5M"], [dt.timedelta(minutes=90), dt.timedelta(minutes=-5)], "PT%-MM"),
    "ISO time spans in days": (["P90D", "P5D"], [dt.timedelta(days=90), dt.timedelta(days=5)], "P%jD"),
    "no end": (["9999-12-31", "2021-12-31"], [day(9999, 12, 31), DAY], "%Y-%m-%d"),
    "dollars": (["$1,234.50", "$7.00", "-$0.25"], [1234.5, 7.0, -0.25], "$1,234.50"),
    "dollars in brackets": (["$1,234.50", "($7.00)"], [1234.5, -7.0], "$1,234.50"),
    "thousands": (["1,446,791.18", "3.00"], [1446791.18, 3.0], "1,234.50"),
    "thousands of India": (["12,34,567", "1,000"], [1234567, 1000], "1,234"),
    "European": (["1.234,50", "7,00"], [1234.5, 7.0], "1.234,50"),
    "Swiss": (["1'234.50", "7.00"], [1234.5, 7.0], "1'234.50"),
    "spaces part thousands": (["1 234,5", "7,0"], [1234.5, 7.0], "1 234,5"),
    "per cent": (["12%", "7%"], [12, 7], "1234%"),
    "per cent, apart": (["12.5 %", "7.0 %"], [12.5, 7.0], "1234.5 %"),
    "kilograms": (["10.3 kg", "5.0 kg"], [10.3, 5.0], "1234.5 kg"),
    "euros": (["5,50 €", "1.234,00 €"], [5.5, 1234.0], "1.234,50 €"),
    "a currency's code": (["USD 5", "USD 1200"], [5, 1200], "USD 1234"),
    "fixed decimals": (["1.50", "2.00"], [1.5, 2.0], "1234.50"),
    "as few decimals as needed": (["1.5", "2", "0.125"], [1.5, 2.0, 0.125], "double"),
    "signs": (["+0.13", "-0.20", "0.00"], [0.13, -0.2, 0.0], "+1234.50"),
    "leading zeros": (["023.09", "-007.50", "116.00"], [23.09, -7.5, 116.0], "1234.50"),
    "leading zeros, some decimals": (["03.5", "12", "00.25"], [3.5, 12.0, 0.25], "double"),
    "no zero before the point": ([".36", "-.5", "1.25"], [0.36, -0.5, 1.25], "double"),
    "no zero before the point, two decimals": ([".36", "-.50", "11.25"], [0.36, -0.5, 11.25], "1234.50"),
    "signs of zeros": (["+0.1", "-0.2", "+0.0"], [0.1, -0.2, 0.0], "+1234.5"),
    "signs of whole zeros": (["+3", "-2", "+0"], [3, -2, 0], "int64"),
    "a minus sign of Unicode": (["0.1", "−0.5"], [0.1, -0.5], "1234.5"),
    "powers of ten": (["1.257e+04", "-3.210e-05"], [12570.0, -3.21e-05], "1.234e+03"),
    "powers of ten of spreadsheets": (["1.26E+04", "3.21E-05"], [12600.0, 3.21e-05], "1.23E+03"),
    "powers of ten, short": (["7E9", "4E-1"], [7e9, 0.4], "1E3"),
    "thousands and millions": (["1.2M", "350K", "7.5B"], [1.2e6, 3.5e5, 7.5e9], "1.2K"),
    "dollars in thousands": (["$1.2M", "$350K", "$950"], [1.2e6, 3.5e5, 950.0], "$1.2K"),
    "bytes": (["12 KB", "3 MB", "7 B"], [12e3, 3e6, 7.0], "1 KB"),
    "latitudes": (["33.45° N", "17.60° S"], [33.45, -17.6], "1234.50° N"),
    "longitudes": (["33.4W", "17.6E"], [-33.4, 17.6], "1234.5E"),
    "minus behind": (["115.14-", "3.00"], [-115.14, 3.0], "1234.50"),
    "credit and debit": (["1,115.14 CR", "3.00 DR"], [1115.14, -3.0], "1,234.50 CR"),
    "laps": (["1:23.456", "0:59.004"], [dt.timedelta(seconds=83.456), dt.timedelta(seconds=59.004)], "%-M:%S.%3f"),
    "minutes of long laps": (["101:23.4", "59:03.5"], [dt.timedelta(seconds=6083.4), dt.timedelta(seconds=3543.5)],
                             "%M:%S.%1f"),
    "ordinals": (["1st Dec 2021", "22nd Jan 2022", "13th Jan 2022"], [day(2021, 12, 1), day(2022, 1, 22),
                 day(2022, 1, 13)], "%-d%o %b %Y"),
    "ordinals, American": (["December 31st, 2021", "January 3rd, 2022"], [DAY, day(2022, 1, 3)], "%B %-d%o, %Y"),
    "underscores": (["2021_12_31", "2022_01_05"], [DAY, day(2022, 1, 5)], "%Y_%m_%d"),
    "a stamp": (["20211231_143000", "20220105_000000"], [NOON, dt.datetime(2022, 1, 5)], "%Y%m%d_%H%M%S"),
    "compact, day first": ([f"{d:02d}012022" for d in range(5, 15)], [day(2022, 1, d) for d in range(5, 15)],
                           "%d%m%Y"),
    "a fraction where there is one": (["2021-12-31 14:30:00", "2021-12-31 14:30:00.125000"],
                                      [NOON, NOON.replace(microsecond=125000)], "%Y-%m-%d %H:%M:%S.%6f"),
    "fractions of any length": (["14:30:00.5", "14:30:00.125"],
                                [dt.time(14, 30, 0, 500000), dt.time(14, 30, 0, 125000)], "%H:%M:%S.%3f"),
    "truth": (["True", "False"], [True, False], "True/False"),
    "loud truth": (["TRUE", "FALSE"], [True, False], "TRUE/FALSE"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_cells_are_read_and_written_back_in_the_same_form(name: str) -> None:
    cells, values, described = FORMS[name]
    found = understood(pa.chunked_array([cells]), "x", "t.csv")
    assert found.values.to_pylist() == values and found.form.describe() == described
    assert found.form.write(found.values).to_pylist() == cells
    again = Form.from_json(found.form.to_json())
    assert again == found.form
    values, bad = again.read(pa.chunked_array([[*cells, "", "no such thing"]]))
    assert values.to_pylist()[:-2] == found.values.to_pylist() and bad.to_pylist()[-2:] == [False, True]


@pytest.mark.parametrize("name", FORMS)
def test_frames_of_text_are_restored_as_text(name: str) -> None:
    """The same cells as text in a frame or a Parquet file come back as text, and gaps stay gaps."""
    cells, values, _ = FORMS[name]
    table = pa.table({"x": [*cells, None]})
    found = read_columns(table, "the data")
    assert found.table["x"].to_pylist() == [*values, None] and found.forms["x"].stored == "string"
    assert found.written(found.table).equals(table)
    assert written(found.table, found.forms).equals(table)


MARKS = ["-", ".", "*", "#VALUE!", "?", "--", "#DIV/0!", "..", "–", "---", "…", "n.a.", "0000-00-00"]
SILENT = ["NaT", "NULL", "(null)", "#N/A", "\\N"]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("name", ["dollars", "fixed decimals", "day first", "times of day"])
def test_marks_are_read_as_missing_and_written_again(mark: str, name: str) -> None:
    cells, values, _ = FORMS[name]
    found = read_columns(pa.table({"x": [*cells, mark, mark, ""]}), "t.csv", is_file=True)
    assert found.table["x"].to_pylist() == [*values, None, None, None]
    assert found.notes == (f"column 'x': 2 cells {mark!r} were read as missing",)
    assert found.written(found.table, as_text=True)["x"].to_pylist() == [*cells, mark, mark, ""]
    assert found.forms["x"].gap == mark  # how new missing cells are written
    assert understood(pa.chunked_array([["u", "v", mark]]), "x", "t.csv").values.to_pylist() == ["u", "v", mark]


@pytest.mark.parametrize("text", SILENT)
def test_words_that_mean_missing_are_read_without_a_note(text: str) -> None:
    for name in ("dollars", "day first"):
        cells, values, _ = FORMS[name]
        found = read_columns(pa.table({"x": [*cells, text]}), "t.csv", is_file=True)
        assert found.table["x"].to_pylist() == [*values, None] and not found.notes and found.forms["x"].gap == text


def test_a_text_can_mean_missing_in_one_column() -> None:
    table = pa.table({"x": ["1", "nil", "3", "0"], "y": ["nil", "NA", "u", "0"], "z": ["0", "1", "2", "0"]})
    with pytest.raises(InputError, match=r"row 1 is 'nil' .* pass --na x=nil if it means missing"):
        read_columns(table, "t.csv", is_file=True)
    found = read_columns(table, "t.csv", Hints(na=("x=nil", "z=0")), is_file=True).table
    assert found.to_pydict() == {"x": [1, None, 3, 0], "y": ["nil", None, "u", "0"], "z": [None, 1, 2, None]}
    with pytest.raises(InputError, match="--na 'a b=nil'"):
        read_columns(pa.table({"a b": ["1", "nil", "3"]}), "t.csv", is_file=True)


def test_named_texts_mean_missing_in_frames_and_pieces_of_streams() -> None:
    table = pa.table({"i": [1, -999, 3], "f": [0.5, 1.5, -999.0], "w": ["u", "nil", "v"], "t": ["5 kg", "nil", "7 kg"]})
    for na, f in ((("-999", "nil"), None), (("i=-999", "w=nil", "t=nil"), -999.0)):
        found = read_columns(table, "the data", Hints(na=na))
        assert found.table.drop(["t"]).to_pydict() == {"i": [1, None, 3], "f": [0.5, 1.5, f], "w": ["u", None, "v"]}
        assert found.table["t"].to_pylist() == [5, None, 7]
        piece = without_marks(table, na)
        assert piece["t"].to_pylist() == ["5 kg", None, "7 kg"]
        assert piece.select(["i", "f", "w"]).equals(found.table.select(["i", "f", "w"]))
    fitted = read_columns(pa.table({"i": ["1", "-999"]}), "t.csv", Hints(na=("-999",)), is_file=True)
    again = read_columns(pa.table({"i": ["-999", "2"]}), "t.csv", Hints(na=("-999",), known=fitted.forms), is_file=True)
    assert again.table["i"].to_pylist() == [None, 2]


NOTES = {
    "bare": (["$5", "$7.50", "8"], [5.0, 7.5, 8.0], "numbers such as '8' were read as if they had $"),
    "bare per cent": (["5%", "7%", "0"], [5, 7, 0], "numbers such as '0' were read as if they had %"),
    "twins": (["1.1", "1.10", "1.9"], [1.1, 1.1, 1.9], "'1.1' and '1.10' were read as one number; pass --format"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTES)
def test_a_form_that_is_given_is_used(name: str) -> None:
    cells, values, message = NOTES[name]
    found = read_columns(pa.table({"x": cells}), "t.csv", is_file=True)
    assert found.table["x"].to_pylist() == values and message in found.notes[0]
    assert found.written(found.table, as_text=True)["x"].to_pylist() == cells


def test_levels_that_look_missing_can_be_kept() -> None:
    cells = pa.chunked_array([["NA", "NL", "None", ""]])
    plain = read_columns(pa.table({"x": cells}), "t.csv", is_file=True)
    assert plain.table["x"].to_pylist() == [None, "NL", "None", None] and "'NA' was read as missing" in plain.notes[0]
    for hints in (Hints(na=("",)), Hints(levels={"x": ("NA", "NL", "None")})):
        found = read_columns(pa.table({"x": cells}), "t.csv", hints, is_file=True)
        assert found.table["x"].to_pylist() == ["NA", "NL", "None", None] and not found.notes
    in_frame = read_columns(pa.table({"x": cells}), "the data")
    assert in_frame.table["x"].to_pylist() == cells.to_pylist() and not in_frame.forms
    codes = read_columns(pa.table({"x": [1, -999, 3]}), "the data", Hints(na=("-999",)))
    assert codes.table["x"].to_pylist() == [1, None, 3]


WORDS = {
    "codes": ["007", "012"], "postal codes": ["01069", "80331"], "hexadecimal": ["0x1F", "0x2A"],
    "letters": ["A1", "A2"], "house numbers": ["12", "12a", "14b"], "sizes": ["12M", "13", "14M"],
    "telephone": ["+4930123456", "+4940567890"], "in the American way": ["778.350.5898", "742.477.7348"],
    "seasons": ["2018/19", "2019/20", "2020/21"], "early seasons": ["2008-09", "2009-10", "2010-11"],
    "few that may be dates": ["01012020", "02012020"],
    "units of two kinds": ["5 kg", "7 lb"], "halves": ["2021-H1", "2021-H2"], "addresses": ["10.0.0.1", "10.0.0.2"],
    "versions": ["1.2.3", "1.10.0"], "ranges": ["1-5", "6-9"], "phone numbers": ["+49 30 1234", "+49 40 5678"],
    "not always dates": ["2021-13-45", "9999-99-99"], "words": ["a", "b"],
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_words_without_a_form_stay_words(name: str) -> None:
    found = understood(pa.chunked_array([WORDS[name]]), "x", "t.csv")
    assert found.values.to_pylist() == WORDS[name] and found.form.kind == "words"


AMBIGUOUS = {
    "day or month": (["01/02/2021", "03/04/2021"], None, "pass --format x=day-first or --format x=month-first"),
    "with a clock": (["01/02/2021 10:00", "03/04/2021 11:30"], None, "read day first or month first"),
    "comma": (["1,500", "2,250"], False, "pass --format x=1,234.5 for thousands, or --format x=1234,5 for decimals"),
    "point": (["1.500", "2.250"], True, "pass --format x=1.234,5 for thousands, or --format x=1234.5 for decimals"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_column_with_two_readings_is_refused_with_an_example(name: str) -> None:
    cells, comma, message = AMBIGUOUS[name]
    with pytest.raises(Unsettled, match=r"t\.csv: column 'x' has") as caught:
        understood(pa.chunked_array([cells]), "x", "t.csv", comma=comma)
    assert message in str(caught.value)


def test_options_other_columns_and_runs_settle_two_readings() -> None:
    cells = pa.chunked_array([["01/02/2021", "03/04/2021"]])
    february = day(2021, 2, 1)
    for asked, first in (("day-first", february), ("month-first", day(2021, 1, 2)), ("%d/%m/%Y", february)):
        found = understood(cells, "x", "t.csv", Hints(formats={"x": asked}))
        assert found.values.to_pylist()[0] == first
    both = read_columns(pa.table({"x": cells, "y": ["31/12/2021", "01/01/2022"]}), "t.csv", is_file=True)
    assert both.table["x"].to_pylist() == [day(2021, 2, 1), day(2021, 4, 3)]  # as in the other column
    known = understood(pa.chunked_array([["31/12/2021"]]), "x", "t.csv").form
    assert understood(cells, "x", "t.csv", Hints(known={"x": known})).values.to_pylist()[0] == day(2021, 2, 1)
    commas = pa.chunked_array([["1,500", "2,250"]])
    for asked, value in (("1,234.5", 1500.0), ("1234,5", 1.5)):
        assert understood(commas, "x", "t.csv", Hints(formats={"x": asked})).values.to_pylist()[0] == value
    with pytest.raises(InputError, match="row 0 is '01/02/2021', which --format x=%Y-%m-%d does not read"):
        understood(cells, "x", "t.csv", Hints(formats={"x": "%Y-%m-%d"}))
    for form in ("%Q", "nonsense", "%d%d"):
        with pytest.raises(InputError, match="--format x="):
            understood(cells, "x", "t.csv", Hints(formats={"x": form}))


@pytest.mark.parametrize("cells", [["PT0H53M", "PT1H0M"], ["PT637S", "PT5S"], ["P0DT1H0M5S"] * 2, ["PT26H17M", "PT3M"]])
def test_each_form_of_time_spans_of_iso_8601_reads_the_others(cells: list[str]) -> None:
    form = understood(pa.chunked_array([cells]), "x", "t.csv").form
    assert form is not None
    others = ["PT90M", "P1DT2H", "PT85.5S", "-PT1H30M", "PT26H17M", "PT0S"]
    minutes = [90, 1560, 85.5 / 60, -90, 1577, 0]
    assert form.read(pa.array(others))[0].to_pylist() == [dt.timedelta(minutes=m) for m in minutes]
    assert Form.from_json(form.to_json()) == form


def test_a_run_reads_other_forms_of_the_same_kind() -> None:
    known = {"x": understood(pa.chunked_array([["$1,234.50", "$7.00"]]), "x", "t.csv").form}
    found = understood(pa.chunked_array([["1234.5", "8"]]), "x", "t.csv", Hints(known=known))
    assert found.values.to_pylist() == [1234.5, 8.0]
    found = understood(pa.chunked_array([["1.234,50 €", "8,00 €"]]), "x", "t.csv", Hints(known=known))
    assert found.values.to_pylist() == [1234.5, 8.0] and found.form.write(found.values).to_pylist()[1] == "8,00 €"
    with pytest.raises(InputError, match="row 1 is 'abc', which is not a number written as"):
        understood(pa.chunked_array([["$8.00", "abc"]]), "x", "t.csv", Hints(known=known))
    lenient = understood(pa.chunked_array([["$8.00", "abc"]]), "x", "t.csv", Hints(known=known, lenient=True))
    assert lenient.values.to_pylist() == [8.0, None] and lenient.unread.to_pylist() == [False, True]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe/Nowhere"])
def test_zones_that_do_not_exist_are_refused(zone: str) -> None:
    with pytest.raises(InputError, match=f"there is no time zone '{zone}'"):
        understood(pa.chunked_array([[f"2021-12-31 14:30 {zone}"]]), "x", "t.csv")


def test_named_zones_are_read_and_written() -> None:
    cells = ["2021-03-28 01:30 Europe/Berlin", "2021-03-28 03:30 Europe/Berlin"]  # between them, an hour does not exist
    found = understood(pa.chunked_array([cells]), "x", "t.csv")
    assert [value.astimezone(UTC).hour for value in found.values.to_pylist()] == [0, 1]
    assert found.form.write(found.values).to_pylist() == cells


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Sydney"])
def test_offsets_that_follow_the_date_are_those_of_a_zone(zone: str) -> None:
    year = pd.date_range("2021-01-01 10:00", "2021-12-30", freq="7D", tz=zone)
    form = understood(pa.chunked_array([[t.isoformat() for t in year]]), "t", "the data").form
    new = pd.date_range("2023-01-04 21:30", "2023-12-30", freq="9D", tz=zone)
    assert form.write(pa.array(new)).to_pylist() == [t.isoformat() for t in new]
    assert Form.from_json(form.to_json()) == form and form.describe().endswith(f"({form.zone})")  # type: ignore[attr-defined]


def test_offsets_of_no_zone_are_written_in_the_commonest() -> None:
    texts = ["2021-01-01T10:00:00+02:00"] * 3 + ["2021-01-02T10:00:00-07:00", "2021-01-03T10:00:00+05:45"]
    form = understood(pa.chunked_array([texts]), "t", "the data").form
    assert form.zone == "+02:00"  # type: ignore[attr-defined]


BROKEN = [
    {"form": "numbers", "means": "double", "point": ""}, {"form": "numbers", "means": "double", "group": "."},
    {"form": "numbers", "means": "double", "places": -1}, {"form": "times", "means": "date32[day]", "pattern": "%Q"},
    {"form": "times", "means": "nonsense"}, {"form": "truth", "means": "bool", "words": ["a"]}, {"form": "novel"},
    {"means": "double"}, [], "numbers", {"form": "words", "means": "string", "gaps": [1]},
    {"form": "times", "means": "timestamp[us]", "zone": "Mars/Olympus"},
]  # fmt: skip


@pytest.mark.parametrize("fields", BROKEN, ids=str)
def test_broken_records_are_refused(fields: Any) -> None:
    with pytest.raises(InputError, match="a form of text that is not valid"):
        Form.from_json(fields)


def test_a_pattern_of_weeks_that_the_user_names_has_their_year():
    cells = pa.chunked_array([["week 1 of 2021", "week 53 of 2020"]])
    values = asked_times("week %V of %G", "x").read(cells)[0].to_pylist()
    assert values == [day(2021, 1, 4), day(2020, 12, 28)]
    with pytest.raises(InputError, match="--format x=%Y-W%V: %G and %V, the year and the week of ISO 8601, need each"):
        asked_times("%Y-W%V", "x")
