"""Numbers that were published, measured again: `recurrax reproduce`.

A claim is a name, its source, and a function that measures its rows. A new one is a function in
the file of its subject and a row of `CLAIMS` here.
"""

from __future__ import annotations

from recurrax.published.claim import Claim, Row, compared, not_comparable, stated

__all__ = ["CLAIMS", "Claim", "Row", "compared", "not_comparable", "stated"]

CLAIMS: dict[str, Claim] = {claim.name: claim for claim in ()}
"""By name; those that train for minutes last."""
