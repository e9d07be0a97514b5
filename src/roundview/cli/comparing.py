"""`roundview eval compare` and `roundview eval table`: results beside one another."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .options import Json


def table(
    results: Annotated[list[Path], typer.Argument(help="results.json of each method.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Markdown file; else printed.")
    ] = None,
) -> None:
    """Print several methods' marks and costs in one table, each compared with the first."""
    from ..evaluate import compare as comparing  # noqa: PLC0415  imports numpy
    from ..evaluate.table import methods_table  # noqa: PLC0415
    from ..export.files import write_bytes  # noqa: PLC0415

    text = methods_table([comparing.read_results(path) for path in results])
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_bytes(output, text.encode())


def compare(
    first: Annotated[Path, typer.Argument(help="results.json of an evaluation.")],
    second: Annotated[Path, typer.Argument(help="results.json of another, of the same protocol.")],
    as_json: Json = False,
) -> None:
    """Print how the second results differ from the first, object by object, with intervals."""
    from ..evaluate import compare as comparing  # noqa: PLC0415  imports numpy

    before, after = comparing.read_results(first), comparing.read_results(second)
    differences = comparing.compare(before, after)
    if as_json:
        for one in differences:
            print(json.dumps(asdict(one) | {"mean": one.mean, "verdict": one.verdict}))
        return
    print(comparing.comparison_text(before, after, differences), end="")
