"""The daily report: one self-contained HTML page a day.

Owns what the page says (`figures`, `evidence`, `previews`), how it looks (`charts`, `templates/`), and when it is made
again (`inputs`, `build`). It promises that a page needs nothing but itself (no script, no font, no link to elsewhere),
that text from outside is text in it and never markup, and that the same inputs give the same bytes. Numbers are those
of a query session of the lake; none is counted here by rules of its own.
"""
