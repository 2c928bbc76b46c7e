"""Batches of one's own: what is refused, and in which words."""

from __future__ import annotations

import close
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx


def checked(input_size=2, output_size=10, **fields):
    batch = rx.tasks.Batch(np.zeros((5, 3, 2)), np.zeros((5, 3), int), np.ones((5, 3)))
    rx.tasks.check_batch(batch._replace(**fields), input_size, output_size)


def at(value, shape=(5, 3), where=(2, 1), dtype=None):
    array = np.zeros(shape, dtype or type(value))
    array[where] = value
    return array


def test_what_is_right():
    checked()
    checked(input_size=None, output_size=None)
    checked(xs=at(1, dtype=np.uint8), weights=np.ones((5, 3), np.uint8))
    checked(targets=np.zeros((5, 3, 10), np.float32))
    checked(targets=at(-1), weights=1 - at(1.0))  # does not count, so it may be anything
    checked(targets=at(np.nan, (5, 3, 10), (2, 1)), weights=1 - at(1.0))
    here = ~at(True)
    checked(xs=at(np.nan, (5, 3, 2), (2, 1, 0)), mask=here, begins=np.array([True, False, True]))
    checked(xs=at(9), mask=here)  # nor is a symbol looked at where the mask is False


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"targets": at(10)},
            "targets is 10 at index (2, 1), out of range: 10 outputs are the classes 0 to 9",
        ),
        (
            {"targets": at(-1)},
            "targets is -1 at index (2, 1), out of range: 10 outputs are the classes 0 to 9",
        ),
        (
            {"xs": at(2)},
            "xs is 2 at index (2, 1), out of range: 2 inputs are the symbols 0 to 1",
        ),
        ({"xs": np.zeros((5, 3))}, "xs has shape (5, 3), expected [T, B, I] for float64"),
        (
            {"xs": np.zeros((5, 3, 2), int)},
            "xs has shape (5, 3, 2), expected [T, B] for integer symbols",
        ),
        ({"xs": np.zeros((5, 3, 4))}, "xs has shape (5, 3, 4), expected [T, B, I] with I = 2"),
        ({"xs": np.zeros((5, 0, 2))}, "xs holds no sequences (B = 0); expected B >= 1"),
        (
            {"targets": np.zeros((5, 3, 1))},
            "targets has shape (5, 3, 1), expected [T, B, O] with O = 10",
        ),
        (
            {"targets": np.zeros((3,), int)},
            "targets has shape (3,), expected [T, B] for integer classes",
        ),
        (
            {"targets": np.zeros((3, 5), int)},
            "targets has shape (3, 5), but xs has [T, B] = (5, 3)",
        ),
        ({"weights": np.ones(5)}, "weights has shape (5,), but xs has [T, B] = (5, 3)"),
        (
            {"weights": np.ones((5, 3, 1))},
            "weights has shape (5, 3, 1), but xs has [T, B] = (5, 3)",
        ),
        ({"mask": np.ones((5, 2), bool)}, "mask must be bool [T, B] = (5, 3), got bool[5,2]"),
        ({"mask": np.ones((5, 3))}, "mask must be bool [T, B] = (5, 3), got float64[5,3]"),
        ({"begins": np.ones(5, bool)}, "begins must be bool [B] = (3,), got bool[5]"),
        (
            {"weights": at(-1.0)},
            "weights must not be negative; a step of weight 0 does not count",
        ),
        (
            {"xs": at(np.nan, (5, 3, 2), (1, 2, 0))},
            "batch.xs is not finite: nan at index (1, 2, 0), 1 such entry in all. Leave those "
            "steps out, or fill them.",
        ),
        (
            {"targets": at(np.inf, (5, 3, 10), (2, 1, 0))},
            "batch.targets is not finite: inf at index (2, 1, 0), 1 such entry in all. Leave those "
            "steps out, or fill them.",
        ),
    ],
)
def test_what_is_refused(fields, message):
    with close.says(ValueError, message):
        checked(**fields)


def test_what_is_no_batch():
    with close.says(TypeError, "batch must be a rx.tasks.Batch(xs, targets, weights), got tuple"):
        rx.tasks.check_batch((1, 2, 3))
    with close.says(TypeError, "targets must be an array, got list"):
        checked(targets=[[0, 0, 0]] * 5)


def test_inside_jit_shapes_alone_are_looked_at():
    def sizes(targets):
        checked(xs=jnp.zeros((5, 3, 2)), targets=targets)
        return targets.sum()

    assert int(jax.jit(sizes)(at(10))) == 10
    with pytest.raises(ValueError, match=r"but xs has \[T, B\]"):
        jax.jit(sizes)(at(1, (4, 3)))
