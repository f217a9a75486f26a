"""From titles, covers and train's clicks to one vector an item (Task 1), and its neighbours."""
