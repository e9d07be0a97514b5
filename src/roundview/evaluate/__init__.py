"""Measure models and recipes against objects whose every side is known.

Each protocol has a name, a docstring that says exactly what is compared, and one table as its
result (`results.json`, `results.md`, `report.html`). `docs/evaluation.md` tells how to read them.
"""
