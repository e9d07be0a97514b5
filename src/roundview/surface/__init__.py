"""From fields and splats to clean, textured triangle meshes, and pictures of them."""
