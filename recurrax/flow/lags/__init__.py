"""The gradient of the weights, by how many steps each error travelled."""
