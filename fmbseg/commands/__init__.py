"""What each sub-command of the console script does, one file a command."""
