"""The documentation: words that went stay away, the README is short, and relative links resolve."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

GONE = (
    "from noise",
    "by chance",
    "untrained",
    "slow method",
    "is worth",
    "row of numbers",
    "net of any painting",
    "whatever a user",
    "half as well again",
    "half as high again",
    "how the code lies",
    "put right",
    "thereof",
    "wherein",
)
# The notebook keeps the words that its figures were written down with.
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"] + [
    path
    for folder, suffix in (
        ("docs", ".md"),
        ("configs", ".yaml"),
        ("fastnst", ".py"),
        ("fastnst", ".html"),
        ("scripts", ".py"),
    )
    for path in sorted((ROOT / folder).rglob(f"*{suffix}"))
    if path.name != "notebook.md"
]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "checkpoints" / "README.md"]


def gone_in(text: str) -> list[str]:
    """The phrases of GONE in a text, also across the break of a line, with or without a comment's sign."""
    flat = re.sub(r"\s+(# )?", " ", text.lower())
    return [phrase for phrase in GONE if re.search(rf"\b{phrase}\b", flat)]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_in(page: Path, text: str) -> list[str]:
    """The relative links of a page, text and pictures, that lead nowhere."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if "://" in link:
            continue
        if not target.exists() or anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_words_that_went(path):
    assert gone_in(path.read_text(encoding="utf-8")) == []


def test_a_word_that_went_is_found():
    assert gone_in("# drawn by\n# chance; Untrained") == ["by chance", "untrained"]
    assert gone_in("a chance, trained") == []


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(page):
    assert broken_in(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found():
    text = "# One heading\n[a](docs/nothing.md) [b](README.md) [c](#one-heading) [d](README.md#nothing) [e](https://example.com)"
    assert broken_in(ROOT / "README.md", text) == ["docs/nothing.md", "#one-heading", "README.md#nothing"]
