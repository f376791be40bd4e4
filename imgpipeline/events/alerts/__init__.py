"""Alerts: numbered events, each delivered to the targets that its rule notifies."""
