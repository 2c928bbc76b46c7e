"""What the kernels compute, written plainly: their oracle, their derivative, and what runs where
there is no such device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from recurrax.gated.derivatives import new_fields, pull_back
from recurrax.unrolling.gated.layer import at_least_float32, varying, where
from recurrax.unrolling.kernel.kernel_spec import Backward, Forward, ForwardOutputs, Gradients

if TYPE_CHECKING:
    from recurrax.unrolling.kernel.kernel_spec import KernelSpec


def forward(task: KernelSpec, given: Forward) -> ForwardOutputs:
    """Unroll by `lax.scan`."""
    return jax.vmap(lambda one: _forward(task, one))(given)


def backward(task: KernelSpec, given: Backward) -> Gradients:
    """The gradients by `lax.scan`."""
    return jax.vmap(lambda one: _backward(task, one))(given)


def _product(task: KernelSpec, a: Any, w: Any) -> Any:
    precision = jax.lax.Precision.HIGHEST if w.dtype == jnp.float32 else None
    return jnp.matmul(
        a.astype(w.dtype), w, precision=precision, preferred_element_type=at_least_float32(w.dtype)
    )


def _widen(tree: Any) -> Any:
    return jax.tree.map(lambda a: a.astype(at_least_float32(a.dtype)), tree)


def _forward(task: KernelSpec, given: Forward) -> ForwardOutputs:
    unit, start = _widen(given.unit), _widen(given.start)

    def step(old: Any, now: Any) -> tuple[Any, Any]:
        mask, reset, z = now
        old = old if reset is None else where(reset, start, old)
        z_rec = task.step.split(_product(task, old[task.h], given.w_rec))
        new = where(mask, new_fields(task.step, unit, task.step.split(_widen(z)), z_rec, old), old)
        kept = zip(new, given.state, task.fields, strict=True)
        return new, tuple(a.astype(like.dtype) if w else None for a, like, w in kept)

    now = (given.mask, given.resets, given.z)
    carry = varying(_widen(given.state), given)
    final, stacks = jax.lax.scan(step, carry, now, reverse=task.reverse)
    final = tuple(a.astype(like.dtype) for a, like in zip(final, given.state, strict=True))
    return ForwardOutputs(final, stacks)


def _backward(task: KernelSpec, given: Backward) -> Gradients:
    unit = _widen(given.unit)
    shape = given.final[0].shape
    many = jax.tree.map(lambda a: jnp.broadcast_to(a, shape), unit)  # a gradient for each example

    def step(carry: Any, now: Any) -> tuple[Any, Any]:
        error, total, start = carry
        mask, reset, z, old, more = now
        error = tuple(e if m is None else e + m for e, m in zip(error, _widen(more), strict=True))
        z = [task.step.split(a) for a in _widen(z)]
        z_in, z_rec = z if len(z) > 1 else (z[0], jnp.zeros_like(z[0]))
        none = tuple(jnp.zeros_like(e) for e in error)
        error_here = where(mask, error, none)
        _, pulled = pull_back(task.step, many, z_in, z_rec, _widen(old), error_here)
        d_unit, d_in, d_rec, back = where(mask, pulled, jax.tree.map(jnp.zeros_like, pulled))
        joined = [jnp.moveaxis(d, 0, -2).reshape(*shape[:-1], -1) for d in (d_in, d_rec)]
        through = _product(task, joined[1], given.w_rec.T)
        back = tuple(b + through if k == task.h else b for k, b in enumerate(back))
        if mask is not None:
            back = tuple(b + s for b, s in zip(back, where(mask, none, error), strict=True))
        if reset is not None:
            start = jax.tree.map(jnp.add, start, where(reset, back, none))
            back = where(reset, none, back)
        d_z = [d.astype(a.dtype) for d, a in zip(joined[-len(z) :], given.z, strict=True)]
        return (back, jax.tree.map(jnp.add, total, d_unit), start), tuple(d_z)

    zero = tuple(jnp.zeros(shape, at_least_float32(a.dtype)) for a in given.final)
    total = jax.tree.map(lambda a: jnp.zeros(shape, a.dtype), unit)
    begin = (_widen(given.final), total, None if given.resets is None else zero)
    now = (given.mask, given.resets, given.z, given.old, given.errors)
    (error, total, start), d_z = jax.lax.scan(
        step, varying(begin, given), now, reverse=not task.reverse
    )
    return Gradients(d_z, total, error, start)
