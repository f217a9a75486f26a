"""The ranking model: QIN, its data path, training and prediction (Task 2)."""
