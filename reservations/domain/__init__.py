"""The rules, pure: standard library only, `now` is an argument."""
