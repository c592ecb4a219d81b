"""Every estimator with ``quantize="auto"``: within the default budget in every format, or refused for it, as the table
says (tests/quantised_table.py).
"""

from __future__ import annotations

import pytest

from tests.quantised_table import measured
from tests.support_table import in_table, quantised


def test_the_table_has_every_estimator():
    assert set(quantised()) == set(in_table()), "run `python -m tests.quantised_table`"


# Each seventh, all of them in seven runs of the generator: quantising searches, and the whole table takes minutes.
@pytest.mark.parametrize("name", sorted(in_table())[::7])
def test_as_the_table_says(name, tmp_path):
    assert measured(name, tmp_path) == quantised()[name]
