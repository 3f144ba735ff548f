"""Report of a run: its facts, curves, results by label, errors, and examples, as one HTML page."""
