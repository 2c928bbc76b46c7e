"""Backpropagation that is cut between chunks of time, and how long they are."""
