"""One file per searcher; its file name is its name in a sweep file. Pure: no ray, torch or mlflow."""
