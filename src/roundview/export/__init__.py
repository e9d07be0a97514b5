"""3D files in and out: GLB, OBJ, PLY, splats, posed pictures, videos, contact sheets."""

from .asset import save_asset as save_asset
