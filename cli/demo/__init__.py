"""The main job, shown as it happens: `make demo`, or `python -m cli.demo` against a stack that runs."""
