"""Titles and covers to one embedding an item, and its nearest neighbours (Task 1)."""
