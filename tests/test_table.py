"""Totals, parts and forms of a table."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from convatlas.table import COLUMNS, Row, Table, read_table

counts = st.integers(0, 10**9)
shape = st.tuples(st.integers(1, 4), st.integers(1, 64), st.integers(1, 9), st.integers(1, 9))
row = st.builds(
    Row,
    path=st.sampled_from(["", "conv1", "conv2", "conv2.0", "conv20"]),
    op=st.sampled_from(["conv2d", "relu"]),
    inputs=st.tuples(shape),
    output=shape,
    params=counts,
    macs=counts,
    activations=counts,
    activation_bytes=counts,
    field=st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99)),
    saved_bytes=counts,
    backward_macs=counts,
    offset=st.none() | st.tuples(st.integers(-99, 9), st.integers(-99, 9)),
    setting=st.fixed_dictionaries(
        {},
        optional={
            "kernel": st.tuples(st.integers(1, 9), st.integers(1, 9)),
            "bias": st.booleans(),
            "eps": st.floats(0, 1),
            "mode": st.sampled_from(["nearest", "bilinear"]),
            "scale": st.none(),
        },
    ),
    stride=st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
table = st.builds(
    Table, network=st.just("net"), input=st.tuples(shape), rows=st.lists(row, max_size=6).map(tuple), unused=counts
)


@given(table)
def test_totals_are_the_sums_of_the_rows(t: Table) -> None:
    assert t.totals.params == sum(r.params for r in t.rows) + t.unused
    assert t.totals.macs == sum(r.macs for r in t.rows)
    assert t.totals.activation_bytes == sum(r.activation_bytes for r in t.rows)
    assert t.totals.saved_bytes == sum(r.saved_bytes for r in t.rows)
    assert t.totals.backward_macs == sum(r.backward_macs for r in t.rows)


@given(table)
def test_json_reads_back(t: Table) -> None:
    assert read_table(t.as_json()) == t
    totals = json.loads(t.as_json())["totals"]
    assert (totals["params"], totals["macs"]) == (t.totals.params, t.totals.macs)


@given(table)
def test_csv_has_a_line_a_row_and_exact_numbers(t: Table) -> None:
    lines = t.as_csv().splitlines()
    assert lines[0] == ",".join(c.name for c in COLUMNS if c.name != "share")
    assert len(lines) == 1 + len(t.rows)
    for r, line in zip(t.rows, lines[1:], strict=True):
        assert line.split(",")[4:6] == [str(r.params), str(r.macs)]


@given(table)
def test_every_form_shows_totals_and_convention(t: Table) -> None:
    for form in (t.as_text(), t.as_markdown(), t.as_html()):
        assert f"{t.totals.params:,} parameters, {t.totals.macs:,} MACs" in form
        assert "1 MAC = one multiply-add" in form
        assert f"Backward: {t.totals.backward_macs:,} MACs, " in form


def test_under_takes_a_module_and_what_is_inside_it() -> None:
    r = Row("", "relu", ((1,),), (1,), 1, 0, 0, 0)
    rows = tuple(Row(p, *list(vars(r).values())[1:]) for p in ("conv2", "conv2.0.bn", "conv20", ""))
    assert [x.path for x in Table("n", ((1,),), rows).under("conv2").rows] == ["conv2", "conv2.0.bn"]


def test_rows_without_the_later_fields_have_defaults_and_can_be_hashed() -> None:
    r = Row("", "relu", ((1,),), (1,), 1, 0, 0, 0, None, None)
    assert (r.saved_bytes, r.backward_macs, r.offset, r.setting) == (0, 0, None, {})
    assert len({r, Row("", "relu", ((1,),), (1,), 1, 0, 0, 0)}) == 1


def test_what_was_not_counted_is_said() -> None:
    t = Table("n", ((1, 3, 8, 8),), (), uncounted=("fft_fft2",))
    assert "Not counted, no rule for: fft_fft2." in t.as_text()
    assert "Every operation was counted." in Table("n", ((1,),), ()).as_text()


def test_the_total_field_is_that_of_the_last_map_before_global_pooling() -> None:
    def at(size: int, field: int) -> Row:
        return Row("x", "conv2d", ((1,),), (1, 8, size, size), 0, 0, 0, 0, (field, field), (1, 1))

    assert Table("n", ((1,),), (at(7, 11), at(7, 483), at(1, 675))).totals.field == (483, 483)
    assert Table("n", ((1,),), (at(1, 5),)).totals.field == (5, 5)


@given(table, st.integers(1, 3))
def test_stages_sum_to_the_same(t: Table, depth: int) -> None:
    staged = t.stages(depth)
    for count in ("params", "macs", "activations", "activation_bytes", "saved_bytes", "backward_macs"):
        assert getattr(staged.totals, count) == getattr(t.totals, count)
    paths = [r.path for r in staged.rows]
    assert all(path.count(".") < depth for path in paths)
    assert all(a != b for a, b in pairwise(paths))


def test_a_stage_has_its_first_input_and_its_last_output() -> None:
    """Three operations of a stage are named, more are counted."""
    rows = tuple(
        Row(path, op, ((1, c, 8, 8),), (1, c + 1, 8, 8), c, 10, 64, 256, (c, c), (1, 1))
        for c, (path, op) in enumerate(
            [("conv1.conv", "conv2d"), ("conv1.relu", "relu"), *(("conv2.a", op) for op in "wxyz"), ("fc", "linear")], 1
        )
    )
    first, second, third = Table("net", ((1, 1, 8, 8),), rows).stages().rows
    assert (first.path, first.op, first.inputs, first.output) == (
        "conv1",
        "conv2d, relu",
        ((1, 1, 8, 8),),
        (1, 3, 8, 8),
    )
    assert (first.params, first.macs, first.activations, first.field) == (3, 20, 128, (2, 2))
    assert (second.path, second.op) == ("conv2", "4 operations")
    assert third.op == "linear"


@given(table, st.sampled_from(["params", "macs", "backward_macs", "activations", "saved"]))
def test_sorted_rows_are_the_same_rows_with_the_largest_first(t: Table, count: str) -> None:
    key = {"activations": "activation_bytes", "saved": "saved_bytes"}.get(count, count)
    found = [getattr(r, key) for r in t.by(count).rows]
    assert found == sorted(found, reverse=True)
    assert sorted(map(repr, t.by(count).rows)) == sorted(map(repr, t.rows))


def test_a_text_fits_and_shows_shares() -> None:
    rows = tuple(
        Row(f"conv{i}", "conv2d", ((1, 3, 8, 8),), (1, 3, 8, 8), 9, macs, 192, 768) for i, macs in ((1, 25), (2, 75))
    )
    whole = Table("net", ((1, 3, 8, 8),), rows)
    assert "75.0 %" in whole.as_text()
    assert max(map(len, whole.as_text(80).split("\n\n")[1].splitlines())) <= 80
    assert "share" not in whole.as_csv()
