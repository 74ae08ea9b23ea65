"""What the search for paraphrases finds: of constructed pairs (paraphrases.yaml), and in data sets of one's own.

python benchmarks/paraphrases.py [--known train.jsonl] [--data train.jsonl test.jsonl]

`--known` are the texts that tell which words are common (by default the documentation of the standard library); `--data` counts what is
found between two files, shows every n-th pair to be judged by eye, and times the search.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import yaml

from potstill.data.dataset import load_dataset
from potstill.data.paraphrase import LIKENESS, ParaphraseIndex
from potstill.data.text import compared_text
from potstill.demo import docstring_pairs

KINDS = ("light", "order", "reworded", "free", "other")
SHOWN = 12


def texts(path: Path) -> list[str]:
    """What the rows of a file ask."""
    return [compared_text(example, with_system=False) for example in load_dataset(path)]


def constructed(known: list[str]) -> None:
    """Print how many pairs of each kind are taken for paraphrases."""
    pairs = yaml.safe_load(Path(__file__).with_name("paraphrases.yaml").read_text(encoding="utf-8"))
    index = ParaphraseIndex([pair["text"] for pair in pairs], known)
    print(f"{len(pairs)} questions, cosine from {LIKENESS}, common words by {len(known):,} texts")
    for kind in KINDS:
        matches = [index.search(pair[kind]) for pair in pairs]
        right = sum(match is not None and match[0] == number for number, match in enumerate(matches))
        print(f"{kind:<10}{right:>3} of {len(pairs)} taken for a paraphrase of its question, {sum(map(bool, matches)) - right} of another")


def between(train: list[str], test: list[str]) -> None:
    """Print what is found between two files, and how long a row takes."""
    index, started = ParaphraseIndex(test, train[:20_000]), time.process_time()
    matches = [index.search(text) for text in train]
    seconds = time.process_time() - started
    found = [(train[row], *match) for row, match in enumerate(matches) if match is not None]
    print(f"{len(found):,} of {len(train):,} training rows paraphrase one of {len(test):,} test rows")
    print(f"{seconds / len(train) * 1e6:.0f} µs a row")
    for text, row, likeness in found[:: len(found) // SHOWN + 1]:
        print(f"  {likeness:.2f}  {text[:120]!r}  {test[row][:120]!r}")


def main() -> None:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=Path)
    parser.add_argument("--data", type=Path, nargs=2, metavar=("TRAIN", "TEST"))
    options = parser.parse_args()
    constructed(texts(options.known) if options.known else [pair.messages[-1].content for pair in docstring_pairs()])
    if options.data:
        between(*map(texts, options.data))


if __name__ == "__main__":
    main()
