"""`roundview weights`: what is shipped, under which licence, whether it is whole and right."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

weights = typer.Typer(help="List, show, verify or prove weights.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A card's name, a card's file or a folder of cards.")]
Shown = Annotated[
    str,
    typer.Argument(
        help="A card's name, a card's file, a folder of cards, or one of `list --public`."
    ),
]


@weights.command("list")
def list_all(
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Those of others that can be pulled instead.")
    ] = False,
) -> None:
    """List the shipped weights."""
    if public:
        _list_public(as_json=as_json)
        return
    from ..weights import list_cards  # noqa: PLC0415  only what a command needs

    cards = list_cards()
    if as_json:
        print(json.dumps([card.to_json() for card in cards], indent=2))
        return
    for card in cards:
        use = "commercial use allowed" if card.commercial_use else "no commercial use"
        print(f"{card.name:20} {card.kind:12} {card.licence:12} {use}")


def _list_public(*, as_json: bool) -> None:
    from dataclasses import asdict  # noqa: PLC0415  only what a command needs

    from ..public import public_checkpoints  # noqa: PLC0415  imports torch

    found = public_checkpoints()
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    for one in found:
        use = "commercial use allowed" if one.commercial_use else "no commercial use"
        gate = "; gated" if one.gated else ""
        print(f"{one.name:21} {one.memory_gb:3.0f} GB  {one.purpose} ({use}{gate}: {one.licence})")


@weights.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="One of `roundview weights list --public`.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody: take what is in the hub's cache.")
    ] = False,
) -> None:
    """Fetch a public checkpoint from the Hugging Face hub and import it; needs the extra hub."""
    from ..public import public_checkpoint  # noqa: PLC0415  imports torch
    from ..public import pull as fetch  # noqa: PLC0415

    wanted = public_checkpoint(name)
    use = "commercial use allowed" if wanted.commercial_use else "NO commercial use"
    print(f"{name}: {wanted.licence}; {use}; needs about {wanted.memory_gb:g} GB of GPU memory")
    print(f"wrote {fetch(name, output, offline=offline).path} and its card")


@weights.command("show")
def show(name: Shown) -> None:
    """Print a card as JSON, or what is known of a public checkpoint before it is pulled."""
    from ..weights import named  # noqa: PLC0415  only what a command needs

    try:
        cards = named(name)
    except ValueError:
        if not _show_public(name):
            raise
        return
    print(
        json.dumps([c.to_json() for c in cards] if len(cards) > 1 else cards[0].to_json(), indent=2)
    )


def _show_public(name: str) -> bool:
    """Print a public checkpoint, if there is one of that name."""
    from dataclasses import asdict  # noqa: PLC0415  only what a command needs

    from ..public import public_checkpoints  # noqa: PLC0415  imports torch

    found = next((one for one in public_checkpoints() if one.name == name), None)
    if found is not None:
        print(json.dumps(asdict(found), indent=2))
    return found is not None


@weights.command("verify")
def verify(
    name: Annotated[str | None, typer.Argument(help="One of them; all by default.")] = None,
) -> None:
    """Check weight files against the hashes on their cards."""
    from ..weights import list_cards, named  # noqa: PLC0415  only what a command needs
    from ..weights import verify as check  # noqa: PLC0415

    for card in list_cards() if name is None else named(name):
        check(card)
        print(f"{card.name}: whole")


@weights.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="A .safetensors, .ckpt, .pt, .pth or .bin file, or a folder of diffusers."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            help="zero123, zero123plus, svd, sv3d, hi3d, mvdream, imagedream, isotropic3d, sd1, "
            "sd2, sd2-v, sd2-depth, dpt, autoencoder or clip."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    name: Annotated[str | None, typer.Option(help="Of the card; the file's own.")] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Keep float32; half precision else.")
    ] = False,
) -> None:
    """Turn a public checkpoint in its original layout into safetensors with a card."""
    from ..importing import import_checkpoint  # noqa: PLC0415  imports torch and diffusers

    card = import_checkpoint(file, kind, output, half=not full, name=name)
    print(f"wrote {card.path} ({card.facts['bytes'] / 1e9:.2f} GB) and its card")


@weights.command("export")
def export(
    name: Name,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    form: Annotated[
        str, typer.Option("--format", help="diffusers (a folder) or original (one file).")
    ] = "diffusers",
) -> None:
    """Write an imported checkpoint for the programs of others, to the bit."""
    from ..loaders.exporting import export_folder, export_original  # noqa: PLC0415  imports torch
    from ..weights import named  # noqa: PLC0415

    if form not in ("diffusers", "original"):
        raise ValueError(f"--format must be diffusers or original, got {form!r}")
    cards = named(name)
    if len(cards) > 1:
        raise ValueError(f"{name} holds {len(cards)} cards; name one")
    (export_folder if form == "diffusers" else export_original)(cards[0], output)
    print(f"wrote {output}")


@weights.command("parity")
def parity(
    weights: Annotated[Path, typer.Argument(help="Safetensors in the original key layout.")],
    io: Annotated[Path, typer.Argument(help="Safetensors with inputs and the original's outputs.")],
) -> int:
    """Run our network on an original's inputs and print how far the outputs are apart, as JSON."""
    for path in (weights, io):
        if not path.is_file():
            raise ValueError(f"{path} is no file")
    from ..parity import check_parity, read_fixture  # noqa: PLC0415  imports torch and diffusers

    found = check_parity(read_fixture(weights, io))
    print(json.dumps({name: error for name, (error, _) in found.items()}))
    # NaN fails too.
    wrong = {name for name, (error, most) in found.items() if not error <= most}
    if not wrong:
        return 0
    print(f"roundview: over the tolerance: {', '.join(sorted(wrong))}", file=sys.stderr)
    return 1
