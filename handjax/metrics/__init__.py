"""Figures of merit, each with its interval."""
