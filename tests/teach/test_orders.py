"""The explorer of orders: steps by hand, and that its words say what its picture shows."""

import numpy as np
import pytest
from samples import controls, said

from minimuse import decoding
from minimuse.teach import orders


def test_steps_by_hand():
    rows = orders.revealed_at("raster", "linear", 4, (2, 4))
    assert rows.tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]] and orders.neighbours_together(rows) == 4
    assert orders.neighbours_together(np.zeros((3, 3))) == 12
    assert orders.neighbours_together(np.arange(9).reshape(3, 3)) == 0
    first = np.argmin(decoding.halton_ranks(8, 8))
    halton = orders.revealed_at("halton", "exp", 12)
    assert (halton == 1).sum() == 1 and np.argmin(halton.ravel()) == first and halton.max() == 12


def test_every_step_reveals_as_many_as_decoding_does():
    for order in orders.FIXED:
        assert np.bincount(orders.revealed_at(order, "cosine", 8).ravel())[1:].tolist() == [2, 3, 6, 8, 10, 11, 12, 12]
    random = [orders.revealed_at("random", "cosine", 8, seed=seed) for seed in (0, 0, 1)]
    assert (random[0] == random[1]).all() and (random[0] != random[2]).any()


def test_spread_orders_keep_neighbours_apart():
    together = {order: orders.neighbours_together(orders.revealed_at(order, "cosine", 12)) for order in orders.FIXED}
    assert together["halton"] < together["random"] < together["raster"]


def test_the_order_of_confidence_is_refused():
    with pytest.raises(ValueError, match="confidence"):
        orders.revealed_at("confidence", "cosine", 8)


def test_the_explorer_follows_its_menus(capsys):
    found = {c.description: c for c in controls(orders.order_explorer())}
    assert list(found) == ["Order", "Law", "Steps T"] and "halton" in said(capsys)
    found["Order"].value, found["Steps T"].value = "raster", 4
    words = said(capsys)
    assert "raster" in words and str(orders.neighbours_together(orders.revealed_at("raster", "exp", 4))) in words
