"""The shipped configs, importable so that Hydra finds them at `pkg://hydratune.conf`."""
