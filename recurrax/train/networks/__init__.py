"""What is trained: a cell with a readout or a network of one's own, and its objective."""
