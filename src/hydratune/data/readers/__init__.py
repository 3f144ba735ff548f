"""Readers of file formats; each yields records with their line numbers."""
