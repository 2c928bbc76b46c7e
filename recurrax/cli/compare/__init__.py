"""`recurrax compare`: cells and cures on one task, several seeds of each."""
