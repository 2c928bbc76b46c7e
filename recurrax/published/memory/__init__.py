"""How much of the past a network keeps, and what its gradient costs."""
