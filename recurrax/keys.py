"""Every purpose has a random key of its own, so that no two share one.

`jax.random.fold_in(key, n)` is the same key as `jax.random.split(key, m)[n]`: a small number that
is folded in may be what a split has handed to someone else, such as to the params. So each purpose
folds in a constant of its own first, one that no split reaches, and counts below that.

A key that a user gives is split by `init` alone; everything else is drawn below it, by purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    import chex

# These stay as they are: a checkpoint holds a key, and what is drawn from it must not change.
BATCHES = 2**31  # of training, below it the step
FRESH = 2**31 + 1  # sequences of an endless task, to judge by
EXAMPLES = 2**31 + 2  # sequences along which the gradient flow is measured
DETACH = 2**31 + 3  # the draws of the preset cure
DIRECTIONS = 2**31 + 4  # along which the microscope looks at a large state
FIELDS = 2**31 + 5  # of the mean-field theory
BASIS = 2**31 + 6  # of tangent space, from which exponents are measured
GUESS = 2**31 + 7  # at the top singular vector
ALIGNED = 2**31 + 8  # the basis that is turned towards all singular vectors


def purpose(key: chex.PRNGKey, constant: int) -> Any:
    """The key of one purpose, below a key that a user gave."""
    return jax.random.fold_in(key, constant)


def of_step(key: chex.PRNGKey, step: Any) -> Any:
    """The key from which training step n draws its batch, of a key and n alone."""
    return jax.random.fold_in(purpose(key, BATCHES), step)


def own(constant: int) -> Any:
    """The key of a purpose for which none is given; it is no key that a user would make.

    `jax.random.key(0)` itself is the most common of users: what is drawn from it would be no more
    than their own weights once again.
    """
    with jax.ensure_compile_time_eval():  # a constant in the program, also inside a loop
        return purpose(jax.random.key(0), constant)
