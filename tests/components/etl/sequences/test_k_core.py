"""The k-core against a plain loop on random graphs."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.etl.sequences.k_core import k_core


def reference(pairs, k):
    left = set(pairs)
    while True:
        users = {u for u, _ in left if sum(u == other for other, _ in left) >= k}
        items = {i for _, i in left if sum(i == other for _, other in left) >= k}
        kept = {(u, i) for u, i in left if u in users and i in items}
        if kept == left:
            return left
        left = kept


def test_a_chain_falls_apart_link_by_link(spark):
    # i1 has one user, so it goes; then u1 has one item left, then i2 one user: nothing stays.
    chain = [("u1", "i1"), ("u1", "i2"), ("u2", "i2"), ("u2", "i3"), ("u3", "i3"), ("u3", "i4")]
    assert k_core(spark.createDataFrame(chain, "user_id string, item_id string"), 2).count() == 0


EDGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDGES, st.integers(2, 3))
def test_fixed_point_equals_a_plain_loop(spark, edges, k):
    pairs = [(f"u{u}", f"i{i}") for u, i in edges]
    frame = spark.createDataFrame(pairs, "user_id string, item_id string")
    found = [tuple(row) for row in k_core(frame, k).collect()]
    kept = reference(pairs, k)
    assert sorted(found) == sorted(pair for pair in pairs if pair in kept)  # repeated events stay
