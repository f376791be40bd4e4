"""Where frames come from: each source puts images into the store and announces them.

What happens to a frame once it is announced does not belong here (`stream`, `detect`).
"""
