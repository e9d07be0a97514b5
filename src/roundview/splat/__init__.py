"""Gaussian splatting: draw clouds of Gaussians, and fit them to views."""
