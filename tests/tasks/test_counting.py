"""Counting: the strings written out by hand, the metric, the baseline."""

from __future__ import annotations

import close
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recurrax as rx


def written_out(n, T, letters):
    """What is read, what follows, and whether it is determined, by string operations alone."""
    end = "#"
    string = "".join(letter * n for letter in "abc"[:letters])
    read = (end + string).ljust(T)
    following = (string + end).ljust(T)
    asked = []
    for t in range(T):
        prefix = string[:t]
        asked.append(t <= len(string) and (prefix == "" or set(prefix) != {"a"}))
    return read, following, asked


@pytest.mark.parametrize(
    ("T", "letters", "n_min", "n_max"), [(8, 2, 1, None), (15, 3, 1, None), (20, 2, 3, 5)]
)
def test_the_strings(T, letters, n_min, n_max, key):
    task = rx.tasks.counting(T, letters, n_min, n_max)
    batch = task.draw(key, 150)
    symbols = "abc"[:letters] + "#"
    seen = set()
    for b in range(150):
        xs = np.asarray(batch.xs[:, b])
        read = "".join(symbols[x.argmax()] if x.any() else " " for x in xs)
        n = read.count("a")
        seen.add(n)
        expected, following, asked = written_out(n, T, letters)
        assert read == expected
        assert list(batch.weights[:, b]) == asked
        targets = np.asarray(batch.targets[:, b])
        inside = letters * n + 1
        assert "".join(symbols[i] for i in targets[:inside]) == following[:inside]
        assert set(xs.sum(-1)) <= {0.0, 1.0}
    assert seen == set(range(n_min, (n_max or (T - 1) // letters) + 1))


def test_a_string_counts_when_all_of_it_is_right(key):
    task = rx.tasks.counting(9)
    batch = task.draw(key, 5)
    outputs = jnp.eye(3)[batch.targets]
    not_asked = (batch.weights == 0)[..., None]
    noise = jax.random.normal(key, outputs.shape)
    right = jnp.where(not_asked, noise, outputs)
    assert float(task.metrics(right, batch)["string_accuracy"]) == 1
    wrong = right.at[0, 2].set(jnp.array([0.0, 1.0, 0.0]))  # a string begins with a
    np.testing.assert_allclose(task.metrics(wrong, batch)["string_accuracy"], 0.8, rtol=1e-6)


@pytest.mark.parametrize(
    ("letters", "n_min", "n_max"), [(2, 1, 3), (2, 1, 6), (3, 1, 4), (3, 2, 5)]
)
def test_the_best_guess_from_one_symbol_reaches_the_baseline(letters, n_min, n_max, key):
    """It reads a symbol and answers with the frequencies of what follows, counted here."""
    task = rx.tasks.counting(letters * n_max + 1, letters, n_min, n_max)
    batch = task.draw(key, 20_000)
    size = letters + 1
    read, targets = np.asarray(batch.xs).argmax(-1), np.asarray(batch.targets)
    asked = np.asarray(batch.weights) > 0
    counts = np.full((size, size), 1e-9)
    np.add.at(counts, (read[asked], targets[asked]), 1)
    loss = task.loss(np.log(counts / counts.sum(1, keepdims=True))[read], batch)
    baseline = dict(task.baseline)
    np.testing.assert_allclose(loss, baseline["loss"], rtol=0.02)

    # The best fixed answer to each symbol, found by trying all of them.
    best = 0.0
    for choice in np.ndindex(*(size,) * letters):
        answers = np.eye(size)[[*choice, 0]]  # after the first symbol comes an a
        found = task.metrics(answers[read], batch)["string_accuracy"]
        best = max(best, float(found))
    np.testing.assert_allclose(best, baseline["string_accuracy"], atol=0.015)


def test_what_is_refused():
    with close.says(ValueError, "letters must be 2 (a^n b^n) or 3 (a^n b^n c^n), got 4"):
        rx.tasks.counting(20, letters=4)
    with close.says(TypeError, "letters must be a positive integer, got 2.0"):
        rx.tasks.counting(20, letters=2.0)
    with close.says(
        ValueError,
        "counting needs T >= 7, one step and 3 letters 2 times; got 6",
    ):
        rx.tasks.counting(6, letters=3)
    with close.says(ValueError, "counting needs T >= 21, one step and 2 letters 10 times; got 20"):
        rx.tasks.counting(20, n_max=10)
    with close.says(
        ValueError, "n_max must be above n_min = 3, or there is nothing to count; got 3"
    ):
        rx.tasks.counting(20, n_min=3, n_max=3)
    with close.says(ValueError, "n_min must be a positive integer, got 0"):
        rx.tasks.counting(20, n_min=0)
