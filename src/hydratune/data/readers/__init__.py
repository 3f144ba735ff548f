"""Readers of file formats, which yield records with their line numbers."""
