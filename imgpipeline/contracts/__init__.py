"""The values that parts exchange: messages, frame metadata, outcomes, and the keys of the object store.

Nothing here does I/O, and nothing here imports another part of the project except `errors`.
"""
