"""How a budget is shared among types."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rgsud_fast.distillation.selection import share_out

COUNTS = st.dictionaries(st.sampled_from(["drs", "drd", "nrs", "nrd", ""]), st.integers(0, 50), min_size=1)


def test_what_one_type_cannot_fill_goes_to_the_others():
    assert share_out({"drs": 100, "drd": 5, "nrs": 100}, 65, None) == {"drs": 30, "drd": 5, "nrs": 30}
    assert share_out({"drs": 100, "drd": 5}, None, 20) == {"drs": 20, "drd": 5}
    assert share_out({"drs": 100, "drd": 100}, 50, 20) == {"drs": 20, "drd": 20}


@given(COUNTS, st.integers(1, 200))
def test_the_whole_budget_is_used_and_no_more(counts, budget):
    shared = share_out(counts, budget, None)
    assert sum(shared.values()) == min(budget, sum(counts.values()))
    assert all(0 <= shared[kind] <= counts[kind] for kind in counts)
    full = [shared[kind] for kind in counts if shared[kind] == counts[kind]]
    cut = [shared[kind] for kind in counts if shared[kind] < counts[kind]]
    assert not cut or (max(cut) - min(cut) <= 1 and max(full, default=0) <= max(cut) + 1)
