"""A short vocabulary for the miniature CLIP: open_clip's own merges, cut to a list of words.

The words of `words.txt` are split exactly as by CLIP's full vocabulary, since every merge that
they need is kept, in its original order. Any other text falls back to shorter pieces or bytes.
"""

import gzip
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer, get_pairs

CONTEXT_TOKENS = 24
_HEADER = "#fmbseg miniature: a subset of the merges of open_clip's bpe_simple_vocab_16e6"

_WORDS = Path(__file__).with_name("words.txt")


def load_tokenizer(weights: Path) -> SimpleTokenizer:
    """Open the tokenizer of a miniature CLIP folder; it gives `[text, 24]` token numbers."""
    return SimpleTokenizer(bpe_path=str(weights / "bpe.txt.gz"), context_length=CONTEXT_TOKENS)


def write_merges(path: Path, words: Iterable[str] | None = None) -> int:
    """Write the merges that `words` need as a file for `SimpleTokenizer(bpe_path=...)`.

    Args:
        path: a `.txt.gz` file; the same words give the same bytes.
        words: in lower case; the miniature's own list (`words.txt`) when left out.

    Returns:
        The size of the vocabulary: 512 bytes, the merges, start and end of text.
    """
    full = _full_tokenizer()
    chosen = _WORDS.read_text().split() if words is None else words
    needed = {merge for word in chosen for merge in _merges_of(word, full)}
    ordered = sorted(needed, key=lambda merge: full.bpe_ranks[merge])
    lines = [_HEADER, *(" ".join(merge) for merge in ordered)]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    # No newline at the end: SimpleTokenizer would read an empty merge.
    temporary.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))
    temporary.replace(path)
    return 512 + len(needed) + 2


@cache
def _full_tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


def _merges_of(word: str, full: SimpleTokenizer) -> list[tuple[str, str]]:
    """The merges that byte pair encoding applies to a word, in the order of use."""
    letters = [full.byte_encoder[byte] for byte in word.encode()]
    pieces = [*letters[:-1], letters[-1] + "</w>"]
    used = []
    while len(pieces) > 1:
        best = min(get_pairs(pieces), key=lambda pair: full.bpe_ranks.get(pair, float("inf")))
        if best not in full.bpe_ranks:
            break
        used.append(best)
        merged: list[str] = []
        for piece in pieces:
            # A piece that was just merged is longer than best[0], so it is never merged twice.
            if merged and (merged[-1], piece) == best:
                merged[-1] += piece
            else:
                merged.append(piece)
        pieces = merged
    return used
