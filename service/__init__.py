"""The control plane of Tuneyard: sweep files, plans, the command line; imports neither torch nor ray nor mlflow."""
