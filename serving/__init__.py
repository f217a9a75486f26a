"""From a trained model to an answer: one folder, and what scores with it."""
