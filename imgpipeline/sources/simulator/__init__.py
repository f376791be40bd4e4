"""Simulated streets whose content is known exactly: the demo's cameras, and the training data of the demo model.

    for image, truths in Scene(seed=1, hour=22.5):
        ...

The same seed gives the same bytes. A folder of simulated frames is ingested like any other.
"""
