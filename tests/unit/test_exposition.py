"""The page for Prometheus: what is written is what the official client's parser reads."""

import math

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rota.core.exposition import OTHER, Histogram, Names, Sample, family

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.floats(allow_nan=False) | st.integers(-(1 << 40), 1 << 40)


@given(
    st.lists(st.tuples(values, texts), min_size=1, max_size=5, unique_by=lambda it: it[1]), texts
)
def test_what_is_written_is_read_again(rows: list[tuple[float, str]], help_: str) -> None:
    samples = [Sample(value, (("a", text), ("b", "x"))) for value, text in rows]
    text = "".join(family("rota_thing", "gauge", help_, samples))
    [found] = text_string_to_metric_families(text)
    assert found.type == "gauge"
    assert [(it.labels["a"], it.value) for it in found.samples] == [
        (name, float(value)) for value, name in rows
    ]


@given(st.lists(st.floats(-5, 100), max_size=30))
def test_a_histogram_counts_what_is_at_most_each_bound(given_: list[float]) -> None:
    histogram = Histogram((0.5, 1, 10))
    for value in given_:
        histogram.take(value)
    text = "".join(family("rota_s", "histogram", "Seconds.", histogram.samples()))
    [found] = text_string_to_metric_families(text)
    buckets = {it.labels["le"]: it.value for it in found.samples if it.name == "rota_s_bucket"}
    assert buckets == {
        "0.5": sum(it <= 0.5 for it in given_),
        "1": sum(it <= 1 for it in given_),
        "10": sum(it <= 10 for it in given_),
        "+Inf": len(given_),
    }
    total = next(it.value for it in found.samples if it.name == "rota_s_sum")
    assert math.isclose(total, sum(max(it, 0.0) for it in given_), abs_tol=1e-9)


def test_a_family_without_samples_is_not_told() -> None:
    assert list(family("rota_thing", "gauge", "A thing.", [])) == []


def test_names_beyond_the_bound_are_one_and_stay_it() -> None:
    names = Names(2)
    assert [names.of(it) for it in "abcab"] == ["a", "b", OTHER, "a", "b"]
    assert names.of("c") == OTHER
