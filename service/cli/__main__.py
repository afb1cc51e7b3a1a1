"""`python -m service.cli` is `tuneyard`."""

from service.cli.main import main

if __name__ == "__main__":
    main()
