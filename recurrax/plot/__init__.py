"""Pictures of what the microscope measures, with matplotlib."""

from recurrax.plot.axes import blank_axes, save
from recurrax.plot.decay import decay

__all__ = ["blank_axes", "decay", "save"]
