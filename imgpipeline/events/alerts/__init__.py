"""Alerts: numbered events that someone is notified about."""
