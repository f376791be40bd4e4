"""Reading a report as a browser does: tags with their attributes, and the texts of tables and figures."""

from html.parser import HTMLParser

LOADING = {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video", "use", "image"}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class ReadPage(HTMLParser):
    """One parsed page."""

    def __init__(self, page: bytes) -> None:
        """Parse it."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        """Every tag in order."""
        self.numbers: dict[str, str] = {}
        """The figures at the top by their names."""
        self.tables: dict[str, list[list[str]]] = {}
        """Rows of all tables of a section, header rows included; tables of the charts' numbers under their title."""
        self.texts: list[str] = []
        """All texts outside of styles."""
        self.unclosed: list[str] = []
        """Open tags: empty where the page is well-formed."""
        self._section = self._term = self._caption = ""
        self._cell: list[str] | None = None
        self._inside: list[str] | None = None
        self.feed(page.decode())
        self.close()

    def section(self, name: str) -> list[list[str]]:
        """Return the rows of a section's tables."""
        return self.tables.get(name, [])

    @property
    def text(self) -> str:
        """All that can be read, in one line."""
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.tags.append((tag, names))
        if tag not in VOID:
            self.unclosed.append(tag)
        if tag == "section":
            self._section = names["id"] or ""
        if tag == "figure":
            self._caption = ""
        if tag == "tr":
            self.tables.setdefault(self._place, []).append([])
        if tag in ("td", "th"):
            self._cell = []
        if tag in ("dt", "dd", "figcaption"):
            self._inside = []
            self._of_figure = names.get("class") == "figure"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag
        if tag == "figure":
            self._caption = ""
        if tag in ("td", "th") and self._cell is not None:
            self.tables[self._place][-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        if tag in ("dt", "dd", "figcaption") and self._inside is not None:
            text = " ".join("".join(self._inside).split())
            if tag == "dt":
                self._term = text
            elif tag == "figcaption":
                self._caption = text
            elif self._of_figure:
                self.numbers[self._term] = text
            self._inside = None

    def handle_data(self, data: str) -> None:
        if "style" not in self.unclosed:
            self.texts.append(data)
        for kept in (self._cell, self._inside):
            if kept is not None:
                kept.append(data)

    @property
    def _place(self) -> str:
        return self._caption or self._section


def assert_self_contained(page: ReadPage) -> None:
    """Assert that a page loads, links and runs nothing from anywhere."""
    assert not {tag for tag, _ in page.tags} & LOADING
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), f"{tag} {name}={value}"
    assert page.unclosed == []
