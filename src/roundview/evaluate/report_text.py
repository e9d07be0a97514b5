"""Sentences that the documents and the page of an evaluation share."""

from typing import Any


def weights_line(results: dict[str, Any]) -> str:
    """Say with what the measured pictures were made."""
    cards = [f"{card['name']} ({card['sha256'][:12]})" for card in results["weights"]]
    return f"Recipe {results['recipe']}; weights: {', '.join(cards) or 'not from cards'}."


def alignment_line(results: dict[str, Any]) -> str:
    """Say what was done to the measured shape before it was compared."""
    return f"Alignment: {results['alignment']}."


def count_line(results: dict[str, Any]) -> str:
    """Say of how many objects the means are."""
    mean, failed = results["mean"], results["mean"]["of"] - results["mean"]["objects"]
    line = f"Measured {mean['objects']} of {mean['of']} objects"
    return line + (f"; {failed} failed (in no mean)." if failed else ".")


def failure(entry: dict[str, Any]) -> str:
    """Say what went wrong with an object; empty if nothing did."""
    recipe = f"the recipe: {entry['recipe_error']}" if "recipe_error" in entry else ""
    return entry.get("error", recipe)


def settings_text(results: dict[str, Any]) -> str:
    """List the settings, one a line."""
    flat: list[str] = []
    for key, value in results["settings"].items():
        if isinstance(value, dict):
            flat += [f"{key}.{name} = {inner}" for name, inner in value.items()]
        else:
            flat.append(f"{key} = {value}")
    return "\n".join(flat)
