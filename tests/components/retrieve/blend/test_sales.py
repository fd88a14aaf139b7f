import numpy as np
import pytest

from components.retrieve.blend.sales import DAY, NAMES, Sales


def facts(sold: list[tuple[int, float]], item: int, day: float) -> dict[str, float]:
    items, days = (np.array(column) for column in zip(*sold, strict=True))
    found = Sales.of(items.astype(np.int64), (days * DAY).astype(np.int64)).facts(
        np.array([[item]]), np.array([int(day * DAY)])
    )
    return dict(zip(NAMES, found[0, 0].tolist(), strict=True))


SOLD = [(0, 100.0), (0, 460.5), (0, 463.2), (1, 463.9)]


def test_facts_by_hand() -> None:
    found = facts(SOLD, item=0, day=463.9)  # the sale earlier on the same day is not known
    assert found == pytest.approx(
        {
            "sales in 30 days": np.log1p(1),
            "sales in 90 days": np.log1p(1),
            "sales in 365 days": np.log1p(2),
            "age": np.log1p(363),
            "since last sale": np.log1p(3),
            "unsold": 0.0,
        }
    )


@pytest.mark.parametrize(
    ("item", "day"),
    [
        pytest.param(1, 463.95, id="first sold on the day of the request"),
        pytest.param(2, 500.0, id="never sold"),
        pytest.param(0, 3.0, id="a request before all sales"),
    ],
)
def test_an_item_without_an_earlier_sale_is_unsold(item, day) -> None:
    found = facts(SOLD, item, day)
    assert found.pop("unsold") == 1.0
    assert set(found.values()) == {0.0}


def test_long_after_the_last_sale_time_goes_on() -> None:
    found = facts(SOLD, item=0, day=1463.0)
    assert found["since last sale"] == pytest.approx(np.log1p(1000))
    assert found["sales in 365 days"] == 0.0


def test_a_log_without_events_knows_no_sales() -> None:
    nothing = np.zeros(0, np.int64)
    assert Sales.of(nothing, nothing).facts(np.array([[0, 1]]), np.array([DAY]))[0, :, -1].tolist() == [1, 1]
