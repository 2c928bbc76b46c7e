"""Every purpose has a random key of its own, so that no two share one.

`jax.random.fold_in(key, n)` is the same key as `jax.random.split(key, m)[n]`, which may be someone
else's, such as that of the params. So each purpose folds in a constant of its own first, one that
no split reaches, and counts below that. `init` alone splits a user's key.
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
NOISE = 2**31 + 9  # that a model is fed where there are no data
DROPOUT = 2**31 + 10  # of a model that is trained, below it the step
CRITICAL = 2**31 + 11  # the draws of params of which a gain is measured


def purpose(key: chex.PRNGKey, constant: int) -> Any:
    """The key of one purpose, below a key that a user gave."""
    return jax.random.fold_in(key, constant)


def of_step(key: chex.PRNGKey, step: Any, constant: int = BATCHES) -> Any:
    """The key from which training step n draws, its batch say, of a key and n alone."""
    return jax.random.fold_in(purpose(key, constant), step)


def own(constant: int) -> Any:
    """The key of a purpose for which none is given.

    It is no key that a user would make: what `jax.random.key(0)` draws may be their own weights.
    """
    with jax.ensure_compile_time_eval():  # a constant in the program, also inside a loop
        return purpose(jax.random.key(0), constant)
