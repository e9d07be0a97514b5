"""Malformed files: sound ones with something done to them, and ones made up from their words.

Formats with checks and lengths are opened, changed inside and closed again with the checks set
right: else every change would be refused at the door and nothing behind it would be tried.
"""

import gzip
import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator

from .sound import KINDS, Folder

_WORDS = (
    *(b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"4294967295", b"-9223372036854775809"),
    *(b"1e39", b"1e999", b"-1e999", b"nan", b"inf", b"1e-320", b"0x10", b"99999999999999999999"),
    *(b"", b"\x00", b"%s%n", b"../../etc/passwd", b"/dev/zero", b"A" * 300, "é\u202e".encode()),
    *(b'"', b"{", b"[[[[", b"\\", b"1/2/3/4", b"1//", b"list", b"char", b"double", b"#"),
)
_VALUES: tuple[object, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -0.0, 1e308, 1e-320),
    *(float("inf"), float("nan"), "", "0", "\x00", "../../etc/passwd", "a" * 300, "data:,"),
    *([], {}, [[]], [0] * 40, {"": {}}, [None], [1, "a"], {"index": 0}),
)
_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def malformed(kind: str, seed: int) -> Folder:
    """Make one malformed folder; the same kind and seed make the same bytes."""
    rng = random.Random(f"{kind} {seed}")
    folder = dict(rng.choice(KINDS[kind].folders()))
    end = rng.choice(KINDS[kind].spoils)
    named = [name for name in folder if name.endswith(end)] or list(folder)
    name = rng.choice(named)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        folder[name] = _spoiled(name, folder[name], rng)
    return folder


def _spoiled(name: str, data: bytes, rng: random.Random) -> bytes:
    suffix = name.rpartition(".")[2]
    ways: list[Callable[[bytes, random.Random], bytes]] = [_bytes_changed]
    text = suffix in ("obj", "mtl", "txt", "json", "usda", "model", "rels", "xml")
    if text or data[:9] == b"ply\nforma" or data[:5] == b"solid":
        ways += [_words_changed, _words_changed, _lines_changed]
    if data[:1] == b"<":
        ways += [_quoted_changed] * 4
    ways += _INSIDE.get(suffix, [])
    if rng.random() < 0.03:
        return rng.randbytes(rng.choice((0, 1, 7, 12, 20, 100, 3000)))
    return rng.choice(ways)(data, rng)


def _bytes_changed(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, double, move or overwrite bytes; early ones more often: headers are there."""
    if not data:
        return rng.randbytes(8)
    at = min(int(rng.random() ** rng.choice((1, 3)) * len(data)), len(data) - 1)
    length = min(rng.choice((1, 1, 2, 4, 8, 64, 500)), len(data) - at)
    match rng.randrange(7):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[at + length :]
        case 3:
            return data[:at] + data[at : at + length] * rng.choice((2, 3, 50)) + data[at:]
        case 4:
            return data[:at] + rng.randbytes(length) + data[at + length :]
        case 5:
            packed = struct.pack(rng.choice("<>") + "I", rng.choice(_NUMBERS))
            packed = packed[: rng.choice((1, 2, 4))]
            return data[:at] + packed + data[at + len(packed) :]
        case _:
            other = rng.randrange(len(data))
            return data[:at] + data[other : other + length] + data[at + length :]


def _words_changed(data: bytes, rng: random.Random) -> bytes:
    head, mark, body = data.partition(b"end_header") if data[:3] == b"ply" else (data, b"", b"")
    words = head.split(b" ")
    at = rng.randrange(len(words))
    # The end of a line belongs to its last word.
    _, newline, rest = words[at].partition(b"\n")
    words[at] = rng.choice((*_WORDS, rng.choice(words))) + newline + rest
    return b" ".join(words) + mark + body


def _quoted_changed(data: bytes, rng: random.Random) -> bytes:
    """Change what stands between quotation marks, as the values of XML do."""
    places = [found.span(1) for found in re.finditer(rb'"([^"]*)"', data)]
    if not places:
        return _bytes_changed(data, rng)
    begin, end = rng.choice(places)
    other = data[slice(*rng.choice(places))]
    word = rng.choice((*_WORDS, other, other)).replace(b'"', b"")
    return data[:begin] + word + data[end:]


def _lines_changed(data: bytes, rng: random.Random) -> bytes:
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            lines[at] = rng.choice(_WORDS) * rng.choice((1, 2000))
    return b"\n".join(lines)


def _png_changed(data: bytes, rng: random.Random) -> bytes:
    """Change the inside of a chunk, its pixels unpacked or not, and set its check right."""
    chunks = list(_png_chunks(data))
    if not chunks:
        return _bytes_changed(data, rng)
    at = rng.randrange(len(chunks))
    kind, body = chunks[at]
    match rng.randrange(4):
        case 0 if kind == b"IDAT":
            try:
                body = zlib.compress(_bytes_changed(zlib.decompress(body), rng), 1)
            except zlib.error:
                body = _bytes_changed(body, rng)
        case 1:
            kind = rng.choice((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"iCCP", b"eXIf", b"acTL"))
        case 2:
            chunks.insert(rng.randrange(len(chunks)), chunks[at])
        case _:
            body = _bytes_changed(body, rng)
    chunks[at] = (kind, body)
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _glb_changed(data: bytes, rng: random.Random) -> bytes:
    """Change the JSON or the binary of a GLB and set the lengths right."""
    try:
        (length,) = struct.unpack("<I", data[12:16])
        document, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
        if rng.random() < 0.2:
            binary = _bytes_changed(binary, rng)
            text = json.dumps(document).encode()
        else:
            text = _tree_text(document, rng)
    except (struct.error, ValueError, RecursionError):
        return _bytes_changed(data, rng)
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    parts = struct.pack("<I4s", len(text), b"JSON") + text
    parts += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts


def _json_changed(data: bytes, rng: random.Random) -> bytes:
    try:
        return _tree_text(json.loads(data), rng)
    except (ValueError, RecursionError):
        return _bytes_changed(data, rng)


def _tensors_changed(data: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file and set its length right."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        text = _tree_text(json.loads(data[8 : 8 + length]), rng)
    except (struct.error, ValueError, RecursionError):
        return _bytes_changed(data, rng)
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _zip_changed(data: bytes, rng: random.Random) -> bytes:
    """Change, lose, double or rename a part of an archive; its checks and places stay right.

    USDZ wants its parts uncompressed and each begun at a multiple of 64 bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as package:
            parts = [(entry, package.read(entry)) for entry in package.infolist()]
    except Exception:  # Python's reader of archives that are broken already raises nearly anything.
        return _bytes_changed(data, rng)
    if not parts:
        return _bytes_changed(data, rng)
    at = rng.randrange(len(parts))
    entry, body = parts[at]
    match rng.randrange(12):
        case 0:
            del parts[at]
        case 1:
            parts.insert(rng.randrange(len(parts)), parts[at])
        case 2:
            word = rng.choice((*_WORDS, rng.choice(parts)[0].filename.encode()))
            parts[at] = (zipfile.ZipInfo(word.decode(errors="replace") or "x"), body)
        case 3:
            # Little that is packed well, as bombs are.
            tail = rng.choice((b" ", b"\0", body[-20:])) * rng.choice((10**3, 10**6))
            parts[at] = (entry, body + tail)
        case _:
            parts[at] = (entry, _spoiled(entry.filename, body, rng))
    kind = rng.choice((zipfile.ZIP_STORED, parts[0][0].compress_type if parts else 0))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", kind) as package:
        warnings.simplefilter("ignore")  # Of names that are there twice.
        for old, content in parts:
            fresh = zipfile.ZipInfo(old.filename)
            fresh.compress_type = kind
            head = out.tell() + 30 + len(fresh.filename.encode()) + 4
            gap = -head % 64
            fresh.extra = struct.pack("<HH", 0x1986, gap) + bytes(gap)
            package.writestr(fresh, content)
    return out.getvalue()


def _gzip_changed(data: bytes, rng: random.Random) -> bytes:
    """Change what a gzip stream holds."""
    try:
        return gzip.compress(_bytes_changed(gzip.decompress(data), rng), 1, mtime=0)
    except (OSError, EOFError, zlib.error):
        return _bytes_changed(data, rng)


def _rows_changed(data: bytes, rng: random.Random) -> bytes:
    """Change bytes of a file without a header, and keep its length."""
    changed = _bytes_changed(data, rng)
    return (changed + data)[: len(data)] if rng.random() < 0.8 else changed


_INSIDE: dict[str, list[Callable[[bytes, random.Random], bytes]]] = {
    "png": [_png_changed] * 3,
    "glb": [_glb_changed] * 4,
    "json": [_json_changed] * 4,
    "safetensors": [_tensors_changed] * 4,
    "3mf": [_zip_changed] * 6,
    "usdz": [_zip_changed] * 6,
    "spz": [_gzip_changed] * 4,
    "splat": [_rows_changed] * 3,
}


def _tree_text(tree: object, rng: random.Random) -> bytes:
    """Write a changed tree; now and then with a nest deeper than any reader's stack."""
    text = json.dumps(tree_changed(tree, rng)).encode()
    if rng.random() < 0.01:
        at = rng.randrange(len(text))
        return text[:at] + b"[" * 100_000 + text[at:]
    return text


def tree_changed(tree: object, rng: random.Random) -> object:
    """Change one place of a JSON tree: another value, a key less, a value of another."""
    places = [
        (holder, key)
        for holder in _holders(tree)
        for key in (holder if isinstance(holder, dict) else range(len(holder)))
    ]
    if not places or rng.random() < 0.01:
        return rng.choice(_VALUES)
    holder, key = rng.choice(places)
    match rng.randrange(5):
        case 0:
            del holder[key]
        case 1:
            other, its = rng.choice(places)
            # It may lie in what was just cut off; json makes a copy, so that no tree holds itself.
            holder[key] = json.loads(json.dumps(other[its]))
        case 2 if isinstance(holder[key], int | float):
            holder[key] = rng.choice((holder[key] + 1, holder[key] - 1, -holder[key], 7e9, 0.5))
        case _:
            holder[key] = rng.choice(_VALUES)
    return tree


def _holders(tree: object) -> list:  # pyright: ignore[reportMissingTypeArgument]  any JSON
    found, todo = [], [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, dict | list) and node:
            found.append(node)
            todo += list(node.values()) if isinstance(node, dict) else node
    return found
