"""CLIP's text towers and their tokens: a prompt becomes a row of vectors.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021;
Cherti et al., "Reproducible Scaling Laws for Contrastive Language-Image Learning", 2023 (OpenCLIP).
Tensors are named as in OpenCLIP's checkpoints. The merges of letters that tokens are made of belong
to a checkpoint and are read from its file; none come with the package.
"""

import gzip
import html
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .clip import ClipBlock

_MERGES = 49152 - 256 - 2
_APOSTROPHES = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
_END_OF_WORD = "</w>"


@dataclass(frozen=True)
class ClipTextShape:
    """Sizes of a text tower; OpenCLIP's ViT-H/14 as Stable Diffusion 2 uses it by default.

    Attributes:
        width: Of a token.
        layers: Blocks that the checkpoint holds.
        heads: Of the attention.
        vocabulary: Tokens that there are; the last two begin and end a text.
        length: Tokens of a text.
        out: Length of the embedding of a text; 0 for none.
        widening: Of the feed-forward parts.
        quick: See `ClipShape`.
        skipped: Blocks at the end that are not asked; Stable Diffusion 2 leaves out one.
    """

    width: int = 1024
    layers: int = 24
    heads: int = 16
    vocabulary: int = 49408
    length: int = 77
    out: int = 1024
    widening: float = 4.0
    quick: bool = False
    skipped: int = 1


class ClipText(nn.Module):
    """A text tower, its tensors named as in OpenCLIP."""

    def __init__(self, shape: ClipTextShape = ClipTextShape()) -> None:
        super().__init__()
        self.shape = shape
        self.token_embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.positional_embedding = nn.Parameter(torch.zeros(shape.length, shape.width))
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            ClipBlock(shape.width, shape.heads, shape.widening, quick=shape.quick)
            for _ in range(shape.layers)
        )
        self.ln_final = nn.LayerNorm(shape.width)
        self.text_projection = nn.Parameter(torch.zeros(shape.width, shape.out))

    def forward(self, tokens: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Give what networks attend to: the states after the last block that is asked, normalised.

        Each token sees those before it.
        """
        length = tokens.shape[1]
        hidden = self.token_embedding(tokens) + self.positional_embedding[:length]
        later = torch.full((length, length), -torch.inf).to(hidden).triu(1)
        blocks = list(self.transformer.resblocks)  # pyright: ignore[reportArgumentType]  a list
        for block in blocks[: len(blocks) - self.shape.skipped]:
            hidden = block(hidden, later)
        return self.ln_final(hidden)


class Tokens:
    """Cuts a text into tokens by merging letters, the commonest pairs first.

    Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016, on bytes,
    in the order of CLIP: 256 bytes, 256 that end a word, one a merge, and two that begin and end.
    Unlike the original's, the text is not mended by `ftfy` before, but for its letters being
    composed (NFC).

    Attributes:
        ids: Number of each part of a word.
        length: Of every text.
        start: Number that begins a text.
        end: Number that ends one.
        pad: Number after the end.
    """

    def __init__(
        self, merges: Iterable[tuple[str, str]], *, length: int = 77, pad: int = 0
    ) -> None:
        """Take the merges, the commonest first.

        Args:
            merges: Pairs that become one.
            length: Of every text; longer ones are cut.
            pad: Token after the end: 0 for OpenCLIP's towers, the end itself (-1) for OpenAI's.
        """
        letters = list(_letters().values())
        self._rank = {pair: k for k, pair in enumerate(merges)}
        words = [*letters, *(letter + _END_OF_WORD for letter in letters)]
        words += ["".join(pair) for pair in self._rank]
        self.ids = {word: k for k, word in enumerate(words)}
        self.length = length
        self.start, self.end = len(words), len(words) + 1
        self.pad = self.end if pad < 0 else pad

    @classmethod
    def read(cls, path: Path, *, length: int = 77, pad: int = 0) -> "Tokens":
        """Read a checkpoint's merges: `merges.txt`, or `bpe_simple_vocab_16e6.txt.gz`.

        Raises:
            ValueError: If the file is not such a list.
        """
        try:
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no list of merges: {error}") from error
        # The first line says the version; CLIP uses so many of the others.
        lines = text.split("\n")[1 : _MERGES + 1]
        pairs = [tuple(line.split()) for line in lines if line.strip()]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"{path} is no list of merges: a line does not hold a pair")
        return cls([(a, b) for a, b in pairs], length=length, pad=pad)

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return self.end + 1

    def __call__(self, texts: Sequence[str]) -> Int[Tensor, "b k"]:
        """Give the tokens of texts, with their beginning and end."""
        rows = torch.full((len(texts), self.length), self.pad)
        for row, text in zip(rows, texts, strict=True):
            inside = [self.ids[part] for word in _words(text) for part in self.parts(word)]
            whole = [self.start, *inside[: self.length - 2], self.end]
            row[: len(whole)] = torch.tensor(whole)
        return rows

    def parts(self, word: str) -> list[str]:
        """Cut a word, as `ids` has its parts; the last one ends in `</w>`."""
        letters = _letters()
        parts = [letters[byte] for byte in word.encode()]
        parts[-1] += _END_OF_WORD
        while len(parts) > 1:
            pairs = set(pairwise(parts))
            best = min(pairs, key=lambda pair: self._rank.get(pair, len(self._rank)))
            if best not in self._rank:
                break
            parts = _merged(parts, best)
        return parts


def text_tokens(tower: ClipText, tokens: Tokens) -> Callable[[Sequence[str]], Tensor]:
    """Let prompts be told to networks: texts to "b k d" at the tower's place and precision.

    Raises:
        ValueError: If the list of merges is not the one that the tower was trained with.
    """
    if tokens.count != tower.shape.vocabulary or tokens.length > tower.shape.length:
        raise ValueError(
            f"the list of merges makes {tokens.count} tokens, the tower knows "
            f"{tower.shape.vocabulary}"
        )

    @torch.no_grad()
    def tell(texts: Sequence[str]) -> Tensor:
        return tower(tokens(texts).to(tower.positional_embedding.device))

    return tell


def empty_prompts(tower: ClipText, lacking: str) -> Callable[[Sequence[str]], Tensor]:
    """Let empty prompts be told to networks, for which no merges are needed.

    Args:
        tower: Of OpenAI's or OpenCLIP's; the last two of its words begin and end a text.
        lacking: What is said where a prompt is not empty.
    """
    shape = tower.shape
    begin, end = shape.vocabulary - 2, shape.vocabulary - 1

    @torch.no_grad()
    def tell(texts: Sequence[str]) -> Tensor:
        if any(text.strip() for text in texts):
            raise ValueError(lacking)
        # OpenAI's towers fill up with the end, OpenCLIP's with zeros.
        row = torch.full((shape.length,), end if shape.quick else 0)
        row[0], row[1] = begin, end
        return tower(row.expand(len(texts), -1).to(tower.positional_embedding.device))

    return tell


def clip_text_shape_from_state(state: Mapping[str, Tensor], *, skipped: int = 1) -> ClipTextShape:
    """Read a text tower's shape off its tensors: OpenCLIP's, with heads of 64 channels.

    Args:
        state: Names from `token_embedding` on.
        skipped: Blocks at the end that are not asked, which the tensors do not tell.

    Raises:
        ValueError: If this is no text tower.
    """
    try:
        vocabulary, width = state["token_embedding.weight"].shape
        blocks = [name for name in state if name.startswith("transformer.resblocks.")]
        layers = 1 + max(int(name.split(".")[2]) for name in blocks)
        inner = state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
        length, out = state["positional_embedding"].shape[0], state["text_projection"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"this is no CLIP text tower: it lacks {error}") from error
    # Only OpenAI's towers have the quick activation; of theirs, the widths are 512 and 768.
    quick = (width, out) in ((512, 512), (768, 768))
    return ClipTextShape(
        width, layers, max(width // 64, 1), vocabulary, length, out, inner / width, quick, skipped
    )


def _letters() -> dict[int, str]:
    """Give each byte a letter that can be seen: its own, or one beyond 256."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in seen}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(seen))
    return table


def _words(text: str) -> list[str]:
    """Cut a text into words as CLIP does: letters together, each digit alone, signs together."""
    whole = unicodedata.normalize("NFC", html.unescape(html.unescape(text)))
    clean = " ".join(whole.split()).lower()
    words: list[str] = []
    at, before = 0, " "
    while at < len(clean):
        ending = next((end for end in _APOSTROPHES if clean.startswith(end, at)), None)
        if ending is not None and before != "S":
            words.append(ending)
            at, before = at + len(ending), " "
            continue
        kind = _kind(clean[at])
        if kind == before and kind in "LS":
            words[-1] += clean[at]
        elif kind != " ":
            words.append(clean[at])
        at, before = at + 1, kind
    return words


def _kind(letter: str) -> str:
    if letter.isspace():
        return " "
    kind = unicodedata.category(letter)[0]
    return kind if kind in "LN" else "S"


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out
