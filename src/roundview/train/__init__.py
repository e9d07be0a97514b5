"""Training: one loop, and one short file for the loss of each family of models."""
