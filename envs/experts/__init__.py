"""Scripted experts: they read goals and simulator state and act through the policy action space."""
