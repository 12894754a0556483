"""One file a verb, named for it; each has a COMMAND."""
