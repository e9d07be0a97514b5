"""Recipes: one published method a file, each a function from a photo to an asset."""

RECIPES = ("im3d", "hi3d", "cascade-zero123", "hifi123", "isotropic3d")
"""Their names, as users give them; `methods.method_of` knows what each needs."""
