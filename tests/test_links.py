"""Links and pictures of the Markdown files resolve, without a network."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
OWN = re.compile(
    r"https://(?:raw\.githubusercontent\.com/keras-fdr/keras-fdr/main"
    r"|github\.com/keras-fdr/keras-fdr/(?:blob|raw|tree)/main)/(.+)"
)
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "examples" / "README.md",
]


def without_code(text):
    text = re.sub(r"^(```+|~~~+).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`]*`", "", text)


def targets(text):
    """Where the links and pictures of a page point, and its broken references."""
    text = without_code(text)
    defined = dict(re.findall(r"^\[([^]]+)\]:\s*(\S+)", text, flags=re.MULTILINE))
    found = [*re.findall(r"\]\(\s*<?([^)\s>]+)", text), *defined.values()]
    used = re.findall(r"\[[^]]+\]\[([^]]+)\]", text)
    return found, [name for name in used if name not in defined]


def anchors(text):
    """The anchors that GitHub and MyST give to the headings of a page."""
    text = re.sub(r"^(```+|~~~+).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def broken_links(page):
    """The links of a page that point nowhere."""
    found, broken = targets(page.read_text(encoding="utf-8"))
    for target in found:
        own = OWN.fullmatch(target)
        if not own and re.match(r"[a-z]+:", target):
            continue
        base, path = (ROOT, own[1]) if own else (page.parent, target)
        path, _, anchor = unquote(path).partition("#")
        file = (base / path).resolve() if path else page
        if not file.exists():
            broken.append(target)
        elif anchor and file.suffix == ".md":
            if anchor not in anchors(file.read_text(encoding="utf-8")):
                broken.append(target)
        elif anchor and not re.fullmatch(r"L\d+(-L\d+)?", anchor):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    assert broken_links(page) == []


def test_the_checker_finds_what_is_broken(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        """# One `two` heading

[good](#one-two-heading) ![missing](picture.png) [bad](#other) `[code](no.md)`
[own](https://github.com/keras-fdr/keras-fdr/blob/main/README.md)
[gone](https://github.com/keras-fdr/keras-fdr/blob/main/no.md)
[elsewhere](https://example.org/x) [reference][nowhere]

```python
x = [1](no)
```
"""
    )
    gone = "https://github.com/keras-fdr/keras-fdr/blob/main/no.md"
    assert broken_links(page) == ["nowhere", "picture.png", "#other", gone]


def test_readme_links_work_on_pypi():
    """PyPI shows the README, where a relative link leads nowhere."""
    found, _ = targets((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [target for target in found if not target.startswith("https://")] == []


def test_every_page_is_on_the_site():
    """The index lists every page of docs."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = set()
    for tree in re.findall(r"```\{toctree\}\n(.*?)```", index, flags=re.DOTALL):
        lines = [line for line in tree.splitlines() if not line.startswith(":")]
        listed.update(line for line in lines if line)
    docs = ROOT / "docs"
    pages = {path.stem for path in docs.glob("*.md")} - {"index"}
    pages |= {f"tutorials/{path.stem}" for path in docs.glob("tutorials/*.ipynb")}
    assert listed == pages
