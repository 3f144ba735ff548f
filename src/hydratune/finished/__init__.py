"""What can be done with a finished run: predict for rows without labels, evaluate on other data."""
