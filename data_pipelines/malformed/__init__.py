"""Malformed hands with their truth: rendered ones and edited photographs, and normal ones made the same way."""
