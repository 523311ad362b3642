"""Finding out what is wrong with the machine and the workspace, each finding with its mend."""
