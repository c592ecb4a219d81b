"""Every estimator with ``quantize="auto"``: within the default budget in every format, or refused for it, as the table
says (tests/quantised_table.py).
"""

from __future__ import annotations

import pytest

from tests.quantised_table import first_variants, measured
from tests.support_table import quantised


def test_the_table_has_every_estimator():
    assert set(quantised()) == set(first_variants()), "run `python -m tests.quantised_table`"


# Each seventh, all of them in seven runs of the generator: quantising searches, and the whole table takes minutes.
@pytest.mark.parametrize("name", list(first_variants())[::7])
def test_as_the_table_says(name, tmp_path):
    assert measured(first_variants()[name], tmp_path) == quantised()[name]
