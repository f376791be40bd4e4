"""Values that several parts share: messages, outcomes, times, templates, and the keys of the object store.

These modules do no I/O and import no other part of the project except `errors`.
"""
