"""Tables, plots, and pages of a sweep."""
