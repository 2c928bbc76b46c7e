"""`recurrax train`: a cell is trained, and its gradient flow measured before and after."""
