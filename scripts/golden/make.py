"""Writes tests/golden: python scripts/golden/make.py (see README.md)."""

import operations
import radial
import reductions
import special
import witness
from cases import Book

if __name__ == "__main__":
    book = Book()
    witness.add(book)
    operations.add(book)
    reductions.add(book)
    # Last, so that the numbers of the others stay.
    radial.add(book)
    special.add(book)
    book.write()
