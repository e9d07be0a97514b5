"""Names of tensors in the checkpoints of others, and in our networks: one file a family."""
