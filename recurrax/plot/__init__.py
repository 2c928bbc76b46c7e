"""Pictures of what the microscope measures, with matplotlib."""

from recurrax.plot.axes import blank_axes
from recurrax.plot.decay import decay

__all__ = ["blank_axes", "decay"]
