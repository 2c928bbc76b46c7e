"""Sequences of different lengths, from an `.npz` that holds a mask or lengths beside them."""

from __future__ import annotations

import numpy as np
import pytest

from recurrax.cli.console import Mistake
from recurrax.cli.data.read import Reading, read

XS = np.arange(24.0).reshape(4, 3, 2)  # T = 4, B = 3, I = 2
LENGTHS = np.array([4, 0, 2])
MASK = np.arange(4)[:, None] < LENGTHS


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


@pytest.mark.parametrize("beside", [{"lengths": LENGTHS}, {"mask": MASK}])
@pytest.mark.parametrize("name", ["xs", "others"])
def test_steps_that_are_not_there(tmp_path, beside, name):
    data = read(saved(tmp_path, **{name: XS}, **beside), None, 16)
    np.testing.assert_array_equal(data.mask, MASK[:, [0, 2]])
    np.testing.assert_array_equal(data.xs[:, 0], XS[:, 0])
    np.testing.assert_array_equal(data.xs[:, 1], np.where(MASK[:, 2, None], XS[:, 2], 0))
    said = "data.npz: its sequences have 2 to 4 steps; 1 of 3 have none and are left out"
    assert data.notes[-1] == said
    np.testing.assert_array_equal(data.done["steps"], [4, 2])


def test_what_is_not_there_is_not_looked_at(tmp_path):
    """Padding of NaN or of huge numbers is neither refused nor part of a mean."""
    xs = np.where(MASK[..., None], XS, np.nan)
    xs[3, 2] = np.inf
    xs[1, 0, 0] = np.nan  # this one is missing indeed, the value before it is 0
    path = saved(tmp_path, xs=xs, lengths=LENGTHS)
    with pytest.raises(Mistake, match=r"nan at index \(1, 0, 0\) \(from 0\), 1 such number in all"):
        read(path, None, 16)
    data = read(path, None, 16, Reading(fill="forward", standardise=True))
    there = np.concatenate([XS[:, 0], XS[:2, 2]])
    there[1, 0] = 0.0
    expected = (there - there.mean(0)) / there.std(0)
    np.testing.assert_allclose(data.xs[data.mask.T[0], 0], expected[:4], rtol=1e-6)
    np.testing.assert_allclose(data.xs[:2, 1], expected[4:], rtol=1e-6)
    assert (data.xs[2:, 1] == 0).all()


def test_a_fill_does_not_take_what_is_not_there(tmp_path):
    xs = np.array([[[1.0]], [[777.0]], [[np.nan]]])
    path = saved(tmp_path, xs=xs, mask=np.array([[True], [False], [True]]))
    data = read(path, None, 1, Reading(fill="forward"))
    assert data.xs.ravel().tolist() == [1.0, 0.0, 1.0]


def test_windows_of_one_sequence_take_their_mask_along(tmp_path):
    mask = np.array([True, True, False, False, True, False])
    path = saved(tmp_path, xs=np.ones((6, 1)), mask=mask)
    data = read(path, 2, 3)
    np.testing.assert_array_equal(data.mask, [[True, True], [True, False]])
    path = saved(tmp_path, xs=np.ones((6, 1)), lengths=np.array(5))
    np.testing.assert_array_equal(read(path, None, 1).mask[:, 0], [1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize(
    ("beside", "text"),
    [
        ({"mask": MASK.astype(float)}, "holds float64, expected bool, True where a step is there"),
        ({"mask": MASK.T}, r"shape \(3, 4\), expected \(4, 3\), \[T, B\] .*; save mask.T$"),
        ({"mask": MASK[:2]}, r"shape \(2, 3\), expected \(4, 3\), .* \(4, 3, 2\)$"),
        ({"mask": MASK & False}, "its mask says that no step is there, so none can be"),
        ({"lengths": np.zeros(3, int)}, "its lengths say that no step is there, so none can"),
        ({"lengths": LENGTHS / 2}, "are float64, expected integers; save lengths.astype"),
        ({"lengths": LENGTHS[:2]}, r"have shape \(2,\), expected one for each of 3 sequences"),
        ({"lengths": LENGTHS + 1}, "must be from 0 to T = 4, got 5; are the sequences"),
        ({"lengths": LENGTHS - 1}, "must be from 0 to T = 4, got -1"),
        ({"lengths": LENGTHS, "mask": MASK}, "holds both a mask and lengths; save one of them"),
    ],
)
def test_masks_that_are_refused(tmp_path, beside, text):
    with pytest.raises(Mistake, match=text):
        read(saved(tmp_path, xs=XS, **beside), None, 16)


def test_nothing_is_left_of_what_is_measured(tmp_path):
    path = saved(tmp_path, xs=XS, mask=np.arange(4)[:, None] > LENGTHS)
    with pytest.raises(Mistake, match="no sequence has a step among the first 1 step, as its mask"):
        read(path, 1, 1)
