"""`recurrax flow`: real data through cells, and where the gradient goes."""
