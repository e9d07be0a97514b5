"""Shapes as functions of space, optimised against pictures."""
