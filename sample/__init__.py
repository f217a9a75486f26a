"""A small world in the competition's raw layout, whose click probabilities are known."""
