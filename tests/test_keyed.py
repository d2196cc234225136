"""Keyed state: bounded, evicting on event time, and the changelog restores it exactly."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shield.keyed import PartitionState, TenantStore


class Count(msgspec.Struct):
    n: int


def changelog(state: PartitionState, into: dict[bytes, bytes]) -> None:
    for key, value in state.changes():
        if value is None:
            into.pop(key, None)
        else:
            into[key] = value


def test_restores_what_was_put_and_forgets_what_was_popped() -> None:
    state, kept = PartitionState({}), dict[bytes, bytes]()
    table = state.tenant("a").table("counts", Count, entries_max=10, idle_max_s=1e9)
    table.put("x", Count(1), 1.0)
    table.put("y", Count(2), 2.0)
    changelog(state, kept)
    table.pop("x")
    table.put("y", Count(3), 3.0)
    changelog(state, kept)
    again = PartitionState(kept).tenant("a").table("counts", Count, entries_max=10, idle_max_s=1e9)
    assert again.get("x") is None
    assert again.get("y") == Count(3)
    assert len(again) == 1


def test_tenants_and_tables_do_not_mix() -> None:
    state = PartitionState({})
    state.tenant("a").table("t", int, entries_max=10, idle_max_s=1e9).put("k", 1, 0.0)
    assert state.tenant("b").table("t", int, entries_max=10, idle_max_s=1e9).get("k") is None
    assert state.tenant("a").table("u", int, entries_max=10, idle_max_s=1e9).get("k") is None


def test_too_many_entries_evict_the_oldest_and_are_counted() -> None:
    table = TenantStore("a").table("t", int, entries_max=3, idle_max_s=1e9)
    for i in range(5):
        table.put(str(i), i, float(i))
    assert list(table) == ["2", "3", "4"]
    assert table.evicted == 2
    assert {key for key, value in table.changes() if value is None} == {"a\x1ft\x1f0", "a\x1ft\x1f1"}


def test_idle_entries_go_by_event_time() -> None:
    table = TenantStore("a").table("t", int, entries_max=100, idle_max_s=60.0)
    table.put("old", 1, 0.0)
    table.put("mid", 1, 50.0)
    table.put("new", 1, 100.0)
    assert list(table) == ["mid", "new"]


def test_rewriting_keeps_an_entry_and_lets_the_next_oldest_go() -> None:
    table = TenantStore("a").table("t", int, entries_max=2, idle_max_s=60.0)
    table.put("a", 1, 0.0)
    table.put("b", 1, 1.0)
    table.put("a", 2, 1.0)
    assert list(table) == ["b", "a"]
    table.put("c", 1, 1.0)
    assert list(table) == ["a", "c"]
    table.put("c", 2, 62.0)
    assert list(table) == ["c"], "idle for more than a minute of event time"
    assert table.evicted == 2


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9), st.booleans()), max_size=40),
    st.integers(1, 39),
)
def test_a_restart_anywhere_changes_nothing(writes: list[tuple[str, int, bool]], cut: int) -> None:
    def apply(state: PartitionState, part: list[tuple[str, int, bool]], start: int) -> None:
        table = state.tenant("t").table("n", int, entries_max=4, idle_max_s=20.0)
        for i, (key, value, keep) in enumerate(part, start):
            if keep:
                table.put(key, value, float(i))
            else:
                table.pop(key)

    whole, kept = PartitionState({}), dict[bytes, bytes]()
    apply(whole, writes, 0)
    first = PartitionState({})
    apply(first, writes[:cut], 0)
    changelog(first, kept)
    second = PartitionState(dict(kept))
    apply(second, writes[cut:], cut)
    expected = whole.tenant("t").table("n", int, entries_max=4, idle_max_s=20.0).items()
    assert second.tenant("t").table("n", int, entries_max=4, idle_max_s=20.0).items() == expected
