"""One file per scheduler; its file name is its name in a sweep file. Pure: no ray, torch or mlflow."""
