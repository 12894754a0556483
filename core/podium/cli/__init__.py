"""The command line: one file a verb under `verbs`, imported only when that verb is called."""
