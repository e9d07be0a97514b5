import gzip
import json
import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from roundview.diffusion.checkpoints.transformers_clip import text_config, text_names, text_shape
from roundview.diffusion.clip_text import (
    ClipText,
    ClipTextShape,
    Tokens,
    clip_text_shape_from_state,
    empty_prompts,
    text_tokens,
)

MERGES = [("l", "l"), ("h", "e"), ("he", "ll"), ("hell", "o</w>"), ("o", "k</w>")]
TINY = ClipTextShape(64, 3, 1, 512 + len(MERGES) + 2, 12, 24, 2.0, skipped=1)


def tower(shape: ClipTextShape = TINY) -> ClipText:
    rng = torch.Generator().manual_seed(0)
    made = ClipText(shape).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=rng))
    return made


def spelled(tokens: Tokens, text: str) -> list[int]:
    (row,) = tokens([text]).tolist()
    return row[1 : row.index(tokens.end)]


def test_the_commonest_pairs_are_merged_first() -> None:
    tokens = Tokens(MERGES, length=12)
    # 512 letters come first, "hello" is the fourth merge.
    assert tokens([" Hello\n"]).tolist() == [[517, 515, 518, *[0] * 9]]
    # "l" is 75 letters after "!"; where it ends a word, 256 more.
    assert spelled(tokens, "hell") == [513, 75, 75 + 256]
    assert spelled(tokens, "ok ll") == [516, 75, 75 + 256]


def test_a_text_too_long_is_cut_and_a_short_one_filled() -> None:
    tokens = Tokens(MERGES, length=4, pad=-1)
    assert tokens(["hello " * 9, ""]).tolist() == [[517, 515, 515, 518], [517, 518, 518, 518]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's 2024!", ["it", "'s", "2", "0", "2", "4", "!"]),
        ("a&amp;b", ["a", "&", "b"]),
        ("wow!'s", ["wow", "!'", "s"]),
        ("été_x²", ["été", "_", "x", "²"]),
        ("l'a 'quoted'", ["l", "'", "a", "'", "quoted", "'"]),
    ],
)
def test_words_are_cut_as_clip_cuts_them(text: str, words: list[str]) -> None:
    tokens = Tokens([], length=77)
    assert spelled(tokens, text) == [id_ for word in words for id_ in spelled(tokens, word)]
    ends = [id_ for id_ in spelled(tokens, text) if id_ >= 256]
    assert len(ends) == len(words)


def test_merges_are_read_from_either_file(tmp_path: Path) -> None:
    lines = "\n".join(["#version: 0.2", *(f"{a} {b}" for a, b in MERGES), ""])
    (tmp_path / "merges.txt").write_text(lines)
    (tmp_path / "bpe.txt.gz").write_bytes(gzip.compress(lines.encode()))
    for name in ("merges.txt", "bpe.txt.gz"):
        tokens = Tokens.read(tmp_path / name)
        assert tokens.count == TINY.vocabulary
        assert spelled(tokens, "hello") == [515]


@pytest.mark.parametrize("text", ["", "#version\na b c\n", "#version\n"])
def test_another_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match="is no list of merges"):
        Tokens.read(tmp_path / "x.txt")
    (tmp_path / "x.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="is no list of merges"):
        Tokens.read(tmp_path / "x.gz")


@torch.no_grad()
def test_a_token_sees_only_those_before_it() -> None:
    net = tower()
    tokens = torch.randint(0, TINY.vocabulary, (1, 8), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % TINY.vocabulary
    a, b = net(tokens)[0], net(changed)[0]
    torch.testing.assert_close(a[:5], b[:5])
    assert (a[5:] - b[5:]).abs().amax(dim=1).min() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("quick", [True, False])
def test_the_tower_is_that_of_transformers(quick: bool) -> None:
    transformers = pytest.importorskip("transformers")
    shape = ClipTextShape(64, 3, 2, 100, 12, 24, 2.0, quick=quick, skipped=1)
    ours = tower(shape)
    # Else transformers warns that its usual ones are beyond this vocabulary.
    ends = {"bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 0}
    config = {k: v for k, v in text_config(shape).items() if k != "model_type"}
    theirs = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config, **ends)).eval()
    names, joined = text_names(ours)
    state = {there: ours.state_dict()[name] for name, there in names.items()}
    for each in joined:
        state |= zip(each.theirs, each.part(ours.state_dict()[each.ours]), strict=True)
    bare = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    prefixed = any(name.startswith("text_model.") for name in theirs.state_dict())
    theirs.load_state_dict(state if prefixed else bare, strict=True)
    tokens = torch.randint(0, 98, (2, 12), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(tokens), theirs(tokens).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_sizes_are_read_off_tensors_and_configurations() -> None:
    assert clip_text_shape_from_state(tower().state_dict()) == TINY
    read = text_shape(text_config(TINY))
    assert (read.layers, read.skipped, read.out, read.width) == (2, 0, 0, 64)
    with pytest.raises(ValueError, match="no CLIP text tower: it lacks"):
        clip_text_shape_from_state({})


def test_prompts_become_tokens_at_the_tower_s_place() -> None:
    tell = text_tokens(tower(), Tokens(MERGES, length=12))
    assert tell(["hello", "a hello"]).shape == (2, 12, 64)
    with pytest.raises(ValueError, match="makes 514 tokens, the tower knows 519"):
        text_tokens(tower(), Tokens([], length=12))


def test_the_empty_prompt_needs_no_merges() -> None:
    tell = text_tokens(tower(), Tokens(MERGES, length=12))
    empty = empty_prompts(tower(), "there are no merges")
    torch.testing.assert_close(empty(["", " "]), tell(["", ""]))
    with pytest.raises(ValueError, match="there are no merges"):
        empty(["", "a parrot"])


CORPUS = (
    "a photo of the red chair, the blue car and the green lamp: it's on the table. "
    "the cat's toys don't stand there; we've seen they're here, i'm sure you'll find 12 of them! "
    "une élégante théière à fleurs; ein größerer Hut; 日本の木の人形"
)
TEXTS = [
    "A photo of the red chair",
    "THE CAT'S toys, DON'T!!",
    "i'm 3d-asset no. 1234567890 (we've 12)",
    "  spaces\t and\nlines  ",
    "théière élégante, größerer ÉTÉ",
    "the\u0301ie\u0300re",  # Letters and their accents apart.
    "日本の 人形 № ½ x² _under_score_",
    "...'s 'tis 'twas rock'n'roll ''ll'' they'll",
    "emoji 🎩 and 👩‍👩‍👧 end",
    "",
    "word " * 40,
]


def merges_of_text(text: str, count: int) -> list[tuple[str, str]]:
    """Learn merges as byte pair encoding does: again and again the pair that is most frequent."""
    alphabet = Tokens([])
    words = Counter(text.lower().split())
    cut = {word: alphabet.parts(word) for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs = Counter[tuple[str, str]]()
        for word, parts in cut.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        best = max(sorted(pairs), key=lambda pair: pairs[pair])
        merges.append(best)
        tokens = Tokens(merges)
        cut = {word: tokens.parts(word) for word in words}
    return merges


def test_tokens_are_those_of_transformers_tokenizer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    merges = merges_of_text(CORPUS, 120)
    assert ("the", "</w>") not in merges
    ours = Tokens(merges, length=32, pad=-1)
    (tmp_path / "vocab.json").write_text(
        json.dumps(ours.ids | {"<|startoftext|>": ours.start, "<|endoftext|>": ours.end})
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    again = Tokens.read(tmp_path / "merges.txt", length=32, pad=-1)
    theirs = transformers.CLIPTokenizerFast.from_pretrained(tmp_path, model_max_length=32)
    wanted = theirs(TEXTS, padding="max_length", truncation=True, max_length=32)["input_ids"]
    assert ours(TEXTS).tolist() == wanted
    assert torch.equal(again(TEXTS), ours(TEXTS))
    # Merges were used, and not letters alone.
    assert len(spelled(ours, "the red chair")) < 6


def test_any_text_is_cut_as_transformers_cuts_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    merges = merges_of_text(CORPUS, 60)
    ours = Tokens(merges, length=77, pad=-1)
    (tmp_path / "vocab.json").write_text(
        json.dumps(ours.ids | {"<|startoftext|>": ours.start, "<|endoftext|>": ours.end})
    )
    (tmp_path / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]), encoding="utf-8"
    )
    theirs = transformers.CLIPTokenizerFast.from_pretrained(tmp_path, model_max_length=77)
    rng = random.Random(0)
    # No ampersands: OpenAI's own program turns "&amp;" into "&", as ours does, transformers' not.
    # No capital sigma: Python writes a small one at a word's end otherwise, transformers does not.
    letters = "aZé'sS t\u0301llVEreRE09½²_-.!?🎩の日ǅΩ\u00a0" + "\u2019İß"
    texts = ["".join(rng.choices(letters, k=rng.randrange(1, 24))) for _ in range(300)]
    wanted = theirs(texts, padding="max_length", truncation=True, max_length=77)["input_ids"]
    found = ours(texts).tolist()
    wrong = [text for text, a, b in zip(texts, found, wanted, strict=True) if a != b]
    assert wrong == []
