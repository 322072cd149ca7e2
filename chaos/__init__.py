"""Breaks a stack of its own on purpose and checks, from outside, that every promise was kept."""
