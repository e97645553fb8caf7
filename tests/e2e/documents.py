"""The programs of the documents, as tests run them: with only hosts and ports changed."""

import os

import harness


def listing(name, **changes):
    """The text of a listing with the given replacements; each must occur exactly once."""
    with open(os.path.join(harness.HERE, "listings", f"{name}.lua"), encoding="ascii") as f:
        text = f.read()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
