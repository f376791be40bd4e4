"""The daily report: one self-contained HTML page per day.

`inputs` and `build` decide when a page is rebuilt, `figures` and `findings` read its numbers, and `page` lays it out.
A page loads nothing (no script, no font, no other site), escapes untrusted text, and is the same bytes for the same
inputs. Its numbers are those of the lake's query sessions.
"""
