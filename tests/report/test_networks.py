"""The catalogue's networks behind the runs: totals, the input that they are at, and the claims."""

from convatlas.catalogue import table
from convatlas.claims import claims
from convatlas.compare import compare
from convatlas.report.networks import ROWS, known


def test_a_table_has_the_accounts_rows_and_totals() -> None:
    (found,) = known(compare(["lenet5"]).entries)
    account = table("lenet5")
    assert len(found.rows) == len(account.rows) and not found.by_stage
    assert found.total[3:5] == (account.totals.params, account.totals.macs)
    assert sum(row[4] for row in found.rows if isinstance(row[4], int)) == account.totals.macs
    assert (found.input, found.inputs) == ("1x32x32", ())
    printed = [c for c in claims() if c.network == "lenet5"]
    assert sum(n for _, n in found.counted) == len(printed) == sum(len(rows) for _, rows in found.claims)


def test_many_long_networks_are_shown_by_stage() -> None:
    names = ["densenet121", "densenet169", "densenet201", "densenet161", "inception_v4", "resnet152", "lenet5"]
    found = {n.name: n for n in known(compare(names).entries)}
    assert sum(len(n.rows) for n in found.values()) <= ROWS < sum(len(table(name).rows) for name in names)
    assert found["densenet201"].by_stage and not found["lenet5"].by_stage
    assert sum(row[4] or 0 for row in found["densenet201"].rows if row[4]) == table("densenet201").totals.macs
