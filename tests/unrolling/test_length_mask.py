"""Masks from lengths."""

from __future__ import annotations

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from close import assert_same, says
from hypothesis import given

import recurrax as rx


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_the_first_steps_of_each_row(lengths):
    mask = rx.length_mask(np.array(lengths), 5)
    assert mask.dtype == bool
    assert mask.tolist() == [[t < length for length in lengths] for t in range(5)]


def test_any_batch_shape():
    lengths = jnp.array([[0, 1, 2], [3, 2, 3]])
    mask = rx.length_mask(lengths, 3)
    assert mask.shape == (3, 2, 3)
    assert_same(mask.sum(0), lengths)
    assert rx.length_mask(jnp.asarray(2), 3).tolist() == [True, True, False]


def test_traced_lengths():
    lengths = jnp.array([3, 0, 1])
    run = jax.jit(rx.length_mask, static_argnums=1)
    assert_same(run(lengths, 3), rx.length_mask(lengths, 3))
    mapped = jax.vmap(lambda n: rx.length_mask(n, 3), out_axes=1)(lengths)
    assert_same(mapped, rx.length_mask(lengths, 3))


@pytest.mark.parametrize("wrong", [-1, 4])
def test_a_length_outside(wrong):
    with says(ValueError, f"lengths must be from 0 to T = 3, got {wrong}"):
        rx.length_mask(jnp.array([2, wrong]), 3)


def test_lengths_that_are_not_integers():
    with says(TypeError, "lengths must be integers, got float32"):
        rx.length_mask(jnp.array([2.0]), 3)


def test_no_steps_and_no_rows():
    assert rx.length_mask(jnp.array([0, 0]), 0).shape == (0, 2)
    assert rx.length_mask(jnp.zeros(0, int), 3).shape == (3, 0)


@pytest.mark.parametrize(("T", "kind"), [(True, ValueError), (-2, ValueError), (2.5, TypeError)])
def test_a_wrong_number_of_steps(T, kind):
    with says(kind, f"T must be an integer of 0 or more, got {T}"):
        rx.length_mask(jnp.array([0]), T)
