"""How a cell meets time: `unroll`, and the engines behind it."""

from recurrax.cells.bidirectional import Bidirectional, bidirectional
from recurrax.cells.stack import BidirectionalStack
from recurrax.unrolling.cuda_graph import gpu_options
from recurrax.unrolling.masks import length_mask
from recurrax.unrolling.unroll import unroll, unroll_states

__all__ = [
    "Bidirectional",
    "BidirectionalStack",
    "bidirectional",
    "gpu_options",
    "length_mask",
    "unroll",
    "unroll_states",
]
