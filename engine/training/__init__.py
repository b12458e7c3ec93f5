"""Training: from a recipe and its cases to a trained run."""
