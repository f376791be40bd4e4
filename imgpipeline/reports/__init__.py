"""The daily report: one self-contained HTML page per day.

`figures`, `evidence` and `previews` supply the content, `charts` and `templates/` the look; `inputs` and `build` decide
when it is rebuilt. A page needs nothing else (no script, no font, no link to another site), shows untrusted text as
text and never as markup, and the same inputs give the same bytes. All numbers are those of a query session of the lake.
"""
