"""Sweeps: spaces of settings, what to try next, when to stop trying, and what came of it."""
