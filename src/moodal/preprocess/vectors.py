"""Word vectors from a text file -> rows of an embedding.

One word a line with its numbers behind it, separated by single spaces: what word2vec, fastText
and GloVe write, plain or as .gz, with or without the first line that counts words and columns.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from moodal.errors import DataError
from moodal.preprocess.vocabulary import Vocabulary

LONGEST_LINE = 1_000_000
"""Bytes: a word with 40,000 columns. A longer line is no text."""

_Line = tuple[int, str]


def load(path: Path, vocabulary: Vocabulary) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values (V, D) and found (V,): the row of a word is its number; rows not found are zero.

    D is what the file holds. Streamed: memory holds one line besides the answer. Of a word that
    comes twice the first is taken. V is len(vocabulary).

    Raises: DataError, naming file and line: not UTF-8, not numbers, NaN or infinity, a line with
        more or fewer columns than the first; or no word of the vocabulary is in the file.
    """
    lines = _lines(path)
    first = next(lines, None)
    if first is not None and _is_header(first[1]):
        first = next(lines, None)
    if first is None:
        raise DataError(f"{path}: holds no vectors; give a .vec or .txt file of word vectors")
    width = first[1].count(" ")
    values = np.zeros((len(vocabulary), width), np.float32)
    found = np.zeros(len(vocabulary), np.bool_)
    for number, line in chain([first], lines):
        word, columns = _split(f"{path} line {number}", line, width)
        row = vocabulary.number(word)
        if row is not None and not found[row]:
            values[row] = _numbers(f"{path} line {number}", columns)
            found[row] = True
    if not found.any():
        raise DataError(
            f"{path}: holds none of the vocabulary's {len(vocabulary.pieces)} pieces; "
            "is it of another language?"
        )
    return values, found


def _lines(path: Path) -> Iterator[_Line]:
    """(line number from 1, text without the space at its end)."""
    number = 0
    try:
        with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            while raw := file.readline(LONGEST_LINE):
                number += 1
                if len(raw) == LONGEST_LINE:
                    raise DataError(f"{path} line {number}: over {LONGEST_LINE} bytes; not text")
                yield number, raw.decode("utf-8").rstrip(" \r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} line {number}: not UTF-8 ({error.reason} at byte {error.start}); "
            "binary vectors must be written as text first"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} line {number + 1}: cannot be read: {error}") from error


def _is_header(line: str) -> bool:
    parts = line.split(" ")
    return len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts)


def _split(place: str, line: str, width: int) -> tuple[str, str]:
    """The word and its columns. A word may hold spaces (GloVe's ". . ."), but no number."""
    spaces = line.count(" ")
    *words, columns = line.split(" ", spaces - width + 1) if spaces >= width > 0 else (line,)
    if not words or any(map(_is_number, words[1:])):
        raise DataError(
            f"{place}: {spaces} columns behind the word, where the first line of vectors has "
            f"{width}; every line must have as many"
        )
    return " ".join(words), columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(place: str, columns: str) -> list[float]:
    try:
        numbers = [float(column) for column in columns.split(" ")]
    except ValueError as error:
        raise DataError(f"{place}: {error}; only numbers may follow the word") from error
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"{place}: NaN or infinity among the numbers; mend or drop the line")
    return numbers
