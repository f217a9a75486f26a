"""Clicks and item vectors to click probabilities (Task 2): models, training, blends, metrics."""
