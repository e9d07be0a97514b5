"""What the server has done by another process: read a picture, cut it out, convert an asset.

Started by `helper` as `python -m roundview.serve.chores`. It reads one JSON object a line and
answers each with one: `{"result": ...}`, or `{"error": "one line"}` for what the user can mend.
"""

import json
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

_THUMBNAIL_PX = 640


def main() -> None:
    """Do chores until the server closes the pipe."""
    import logging  # noqa: PLC0415
    import warnings  # noqa: PLC0415

    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.ERROR)
    # Libraries print where they like: the answers get a stream of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """Do one chore; what goes wrong becomes its answer."""
    chores = {
        "ready": ready,
        "check": check,
        "matte": matte,
        "export": export,
        "picture": picture,
    }
    try:
        return {"result": chores[asked["chore"]](*asked["arguments"])}
    except ValueError as error:
        return {"error": " ".join(str(error).split())}
    except ImportError as error:
        return {"error": f"this server lacks {error.name}, which this needs"}
    except OSError as error:
        return {"error": f"the server cannot write it ({error.strerror})"}


def ready() -> None:
    """Import what the others need, so that the first client does not wait for it."""
    from .. import photo  # noqa: PLC0415, F401  imports torch


def check(photo: str, mask: str | None, thumbnail: str) -> dict[str, int]:
    """Read a photograph and its mask as `make` will, and write a small JPEG for the page.

    Raises:
        ValueError: If either would be refused.
    """
    from ..image import composite, resize  # noqa: PLC0415  imports torch
    from ..photo import load_image, load_mask  # noqa: PLC0415

    image = load_image(photo)
    h, w = image.size_hw
    if mask is not None:
        load_mask(mask, image.size_hw)
    rgb = image.rgb
    if image.alpha is not None:
        rgb = composite(rgb, image.alpha, (1.0, 1.0, 1.0))
    scale = min(1.0, _THUMBNAIL_PX / max(h, w))
    small = resize(rgb, (max(1, round(h * scale)), max(1, round(w * scale))))
    _write_jpeg(Path(thumbnail), small)
    return {"width": w, "height": h}


def matte(photo: str, picture: str) -> None:
    """Cut the subject out of a photograph and write where it is: a grey PNG of the same size.

    Raises:
        ValueError: If the photograph would be refused, or shows no object.
    """
    from ..export.files import write_png  # noqa: PLC0415
    from ..loaders.parts import Wanted, load_matte  # noqa: PLC0415
    from ..photo import load_image  # noqa: PLC0415

    alpha = load_matte(Wanted(), [])(load_image(photo)).alpha
    write_png(picture, alpha[..., None])


def picture(output: str, target: str) -> bool:
    """Draw what the newest stage of a running job gave; tells whether there was anything to draw.

    Raises:
        ValueError: If what the stage kept cannot be read.
    """
    from ..export.files import write_png  # noqa: PLC0415
    from .pictures import newest_result, picture_of  # noqa: PLC0415  imports torch

    drawn = picture_of(newest_result(Path(output)))
    if drawn is not None:
        write_png(target, drawn)
    return drawn is not None


def export(source: str, target: str) -> None:
    """Write an asset in the format that the target's name asks for; `.zip` holds several files.

    Raises:
        ValueError: If the asset cannot be written so.
    """
    wanted = Path(target)
    wanted.parent.mkdir(exist_ok=True)
    if wanted.name.endswith(".obj.zip"):
        _write_obj(Path(source), wanted)
    elif wanted.suffix == ".zip":
        _write_zip(wanted, sorted(path for path in Path(source).rglob("*") if path.is_file()))
    else:
        from ..export.convert import load_any, save_as  # noqa: PLC0415  imports torch

        save_as(load_any(source), wanted)


def _write_obj(source: Path, wanted: Path) -> None:
    import tempfile  # noqa: PLC0415

    from ..export.convert import load_any, save_as  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=wanted.parent) as folder:
        save_as(load_any(source), Path(folder) / "asset.obj")
        _write_zip(wanted, sorted(Path(folder).iterdir()))


def _write_zip(wanted: Path, paths: list[Path]) -> None:
    from ..export.files import atomic_path  # noqa: PLC0415

    with atomic_path(wanted) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for path in paths:
            # Pictures are compressed already; text shrinks fourfold.
            kind = zipfile.ZIP_STORED if path.suffix == ".png" else zipfile.ZIP_DEFLATED
            archive.write(path, path.name, kind)


def _write_jpeg(path: Path, rgb: Any) -> None:  # noqa: ANN401  a tensor; torch is imported late
    from ..export.files import encoded, quantised, write_bytes  # noqa: PLC0415

    write_bytes(path, encoded(quantised(rgb, bits=8), "JPEG", quality=85))


if __name__ == "__main__":
    main()
