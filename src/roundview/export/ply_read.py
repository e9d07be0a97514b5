"""The container of PLY files: a text header, then elements in text or binary."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_KINDS = ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"]
_NAMES = ["char", "uchar", "short", "ushort", "int", "uint", "float", "double"]
_NEW_NAMES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
_TYPES = dict(zip(_NAMES + _NEW_NAMES, _KINDS + _KINDS, strict=True))
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass(frozen=True, eq=False)
class Element:
    """One element: `count` rows of named columns, and lists, which may differ in length.

    A list property is an array (count, length) when all rows are equally long.
    """

    count: int
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    lists: dict[str, np.ndarray | list[np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Property:
    name: str
    kind: str
    length_kind: str | None = None


@dataclass(frozen=True)
class _Declared:
    name: str
    count: int
    properties: list[_Property]


def read_elements(path: Path | str) -> dict[str, Element]:
    """Read all elements of a PLY file.

    Raises:
        ValueError: If the file is missing, is no PLY, or ends too early.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    try:
        order, declared, start = _header(data)
        if order == "":
            return _text_elements(declared, data[start:])
        return _binary_elements(declared, data, start, order)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def _header(data: bytes) -> tuple[str, list[_Declared], int]:
    if data[:3] != b"ply":
        raise ValueError("it is not a PLY file")
    end = data.find(b"end_header")
    line_end = data.find(b"\n", end)
    if end < 0 or line_end < 0:
        raise ValueError("its header has no end")
    order, declared = None, []
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        match line.split():
            case ["format", name, _]:
                order = _FORMATS.get(name)
            case [] | ["comment" | "obj_info", *_]:
                pass
            case words:
                _declare(words, declared)
    if order is None:
        raise ValueError("its header names no format that is read")
    return order, declared, line_end + 1


def _declare(words: list[str], declared: list[_Declared]) -> None:
    match words:
        case ["element", name, count] if count.isdecimal():
            declared.append(_Declared(name, int(count), []))
        case ["property", "list", length, kind, name] if declared:
            kinds = _TYPES.get(kind), _TYPES.get(length, "f")
            declared[-1].properties.append(_property(name, *kinds))
        case ["property", kind, name] if declared:
            declared[-1].properties.append(_property(name, _TYPES.get(kind), None))
        case _:
            raise ValueError(f"its header has a line that makes no sense: {' '.join(words)[:80]}")


def _property(name: str, kind: str | None, length_kind: str | None) -> _Property:
    if kind is None or (length_kind is not None and length_kind[0] == "f"):
        raise ValueError(f"property {name} has a type that is not read")
    return _Property(name, kind, length_kind)


def _binary_elements(
    declared: list[_Declared], data: bytes, at: int, order: str
) -> dict[str, Element]:
    elements = {}
    for element in declared:
        lists = [p for p in element.properties if p.length_kind]
        if lists:
            elements[element.name], at = _binary_lists(element, data, at, order)
            continue
        dtype = np.dtype([(p.name, order + p.kind) for p in element.properties])
        size = element.count * dtype.itemsize
        if at + size > len(data):
            raise ValueError(f"it ends inside element {element.name}")
        table = np.frombuffer(data, dtype, element.count if dtype.itemsize else 0, at)
        elements[element.name] = _element(element, table)
        at += size
    return elements


def _binary_lists(element: _Declared, data: bytes, start: int, order: str) -> tuple[Element, int]:
    """Read rows with lists: at once when all are as long as the first, else one by one."""
    lengths = _list_lengths(element, data, start, order)
    fields = []
    for p in element.properties:
        if p.length_kind:
            fields.append((f"#{p.name}", order + p.length_kind))
            fields.append((p.name, order + p.kind, (lengths[p.name],)))
        else:
            fields.append((p.name, order + p.kind))
    dtype = np.dtype(fields)
    if start + element.count * dtype.itemsize <= len(data):
        table = np.frombuffer(data, dtype, element.count, start)
        if all((table[f"#{name}"] == length).all() for name, length in lengths.items()):
            return _element(element, table), start + table.nbytes
    return _ragged(element, data, start, order)


def _list_lengths(element: _Declared, data: bytes, at: int, order: str) -> dict[str, int]:
    """Measure the lists of an element's first row."""
    lengths = {}
    if element.count == 0:
        return {p.name: 0 for p in element.properties if p.length_kind}
    for p in element.properties:
        values, at = _row_value(p, data, at, order)
        if p.length_kind:
            lengths[p.name] = len(values)
    return lengths


def _ragged(element: _Declared, data: bytes, at: int, order: str) -> tuple[Element, int]:
    rows: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
    for _ in range(element.count):
        for p in element.properties:
            values, at = _row_value(p, data, at, order)
            rows[p.name].append(values)
    return _from_rows(element, rows), at


def _row_value(p: _Property, data: bytes, at: int, order: str) -> tuple[np.ndarray, int]:
    count = 1
    if p.length_kind:
        length = np.dtype(order + p.length_kind)
        if at + length.itemsize > len(data):
            raise ValueError(f"it ends inside a list of {p.name}")
        count = int(np.frombuffer(data, length, 1, at)[0])
        at += length.itemsize
    dtype = np.dtype(order + p.kind)
    if count < 0 or at + count * dtype.itemsize > len(data):
        raise ValueError(f"it ends inside {p.name}")
    return np.frombuffer(data, dtype, count, at), at + count * dtype.itemsize


def _text_elements(declared: list[_Declared], body: bytes) -> dict[str, Element]:
    words = body.split()
    elements, at = {}, 0
    for element in declared:
        if not any(p.length_kind for p in element.properties):
            width = len(element.properties)
            if at + element.count * width > len(words):
                raise ValueError(f"it ends inside element {element.name}")
            table = _numbers(words[at : at + element.count * width]).reshape(element.count, width)
            columns = {p.name: _cast(table[:, i], p.kind) for i, p in enumerate(element.properties)}
            elements[element.name] = Element(element.count, columns)
            at += element.count * width
            continue
        elements[element.name], at = _text_lists(element, words, at)
    return elements


def _text_lists(element: _Declared, words: list[bytes], at: int) -> tuple[Element, int]:
    rows: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
    for _ in range(element.count):
        for p in element.properties:
            count = 1
            if p.length_kind:
                count = int(_numbers(words[at : at + 1]).sum())
                at += 1
            if count < 0 or at + count > len(words):
                raise ValueError(f"it ends inside element {element.name}")
            rows[p.name].append(_numbers(words[at : at + count], p.kind))
            at += count
    return _from_rows(element, rows), at


def _numbers(words: list[bytes], kind: str = "f8") -> np.ndarray:
    try:
        return _cast(np.array([float(word) for word in words], np.float64), kind)
    except ValueError as error:
        raise ValueError(f"it has a word where a number should be ({error})") from error


def _cast(values: np.ndarray, kind: str) -> np.ndarray:
    if kind[0] in "iu" and not (np.abs(values) < 2**32).all():
        raise ValueError("it has a number too large for its type")
    return values.astype(kind)


def _element(element: _Declared, table: np.ndarray) -> Element:
    names = {p.name: p.length_kind for p in element.properties}
    return Element(
        element.count,
        {name: table[name] for name, is_list in names.items() if not is_list},
        {name: table[name] for name, is_list in names.items() if is_list},
    )


def _from_rows(element: _Declared, rows: dict[str, list[np.ndarray]]) -> Element:
    plain = [p.name for p in element.properties if not p.length_kind]
    return Element(
        element.count,
        {name: np.concatenate(rows[name]) for name in plain if rows[name]},
        {p.name: rows[p.name] for p in element.properties if p.length_kind},
    )
