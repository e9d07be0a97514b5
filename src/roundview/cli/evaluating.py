"""`roundview eval`: named protocols over a data set."""

import typer

evaluate = typer.Typer(help="Measure against ground truth.", no_args_is_help=True)
