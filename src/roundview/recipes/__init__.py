"""Recipes: one published method a file, each a function from a photo to an asset."""

from .im3d import im3d

RECIPES = {"im3d": im3d}
